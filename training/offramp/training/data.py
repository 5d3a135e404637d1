"""Text with labels: JSON Lines, plain or gzip'd, one `{"text", "text_pair"?, "label"}` a line.

A label is a name or an index. Names of indices come from a `labels.json` beside the file
(`{"labels": [...]}`); names without such a file are taken in alphabetical order.
"""

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNLABELLED = -1
"""The label of an example that has none."""


class DataError(Exception):
    """Labelled data that cannot be used; names the file, the line and the cause."""

    def __init__(self, path: Path, line: int | None, cause: str) -> None:
        super().__init__(f"{path}:{line}: {cause}" if line else f"{path}: {cause}")


@dataclass(frozen=True, slots=True)
class Example:
    """One input; `label` is an index into the label names, or `UNLABELLED`."""

    text: str
    text_pair: str | None
    label: int

    @property
    def pair(self) -> tuple[str, str | None]:
        """Both texts, as a tokenizer takes them."""
        return self.text, self.text_pair


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled inputs and the names of their labels."""

    examples: tuple[Example, ...]
    labels: tuple[str, ...]


def load_dataset(path: Path, labels: Sequence[str] | None = None) -> Dataset:
    """Read a labelled file; `labels` fixes the names, as for a dev file beside its train file.

    Raises DataError on the first thing wrong, before anything is trained.
    """
    records = list(_records(path))
    if not records:
        raise DataError(path, None, "holds no examples")
    names = tuple(labels) if labels is not None else _label_names(path, records)
    index = {name: position for position, name in enumerate(names)}
    examples: list[Example] = []
    for line, record in records:
        label = record["label"]
        if isinstance(label, str):
            if label not in index:
                raise DataError(path, line, f"label {label!r} is not one of {list(names)}")
            label = index[label]
        elif not 0 <= label < len(names):
            raise DataError(path, line, f"label {label} is not in 0 to {len(names) - 1}")
        examples.append(Example(record["text"], record.get("text_pair"), label))
    return Dataset(tuple(examples), names)


def load_datasets(paths: Sequence[Path]) -> Dataset:
    """Read several files as one; all have the labels of the first."""
    first, *others = paths
    dataset = load_dataset(first)
    examples = list(dataset.examples)
    for path in others:
        examples.extend(load_dataset(path, dataset.labels).examples)
    return Dataset(tuple(examples), dataset.labels)


def load_unlabelled(paths: Sequence[Path]) -> tuple[Example, ...]:
    """Read texts alone from files of the same form; labels are ignored where there are any."""
    return tuple(
        Example(record["text"], record.get("text_pair"), UNLABELLED)
        for path in paths
        for _, record in _records(path, labelled=False)
    )


def _records(path: Path, *, labelled: bool = True) -> Iterator[tuple[int, dict[str, Any]]]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _record(path, number, line, labelled=labelled)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(path, None, f"cannot be read: {error}") from error


def _record(path: Path, number: int, line: str, *, labelled: bool) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(path, number, f"is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise DataError(path, number, "must be a JSON object with text and label")
    if not isinstance(record.get("text"), str) or not record["text"].strip():
        raise DataError(path, number, "has no text")
    if not isinstance(record.get("text_pair"), str | None):
        raise DataError(path, number, "text_pair must be a text or null")
    label = record.get("label")
    if labelled and (not isinstance(label, str | int) or isinstance(label, bool)):
        raise DataError(path, number, "has no label (a name or an index)")
    return record


def _label_names(path: Path, records: Sequence[tuple[int, dict[str, Any]]]) -> tuple[str, ...]:
    beside = path.parent / "labels.json"
    if beside.is_file():
        try:
            return tuple(str(name) for name in json.loads(beside.read_text("utf-8"))["labels"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(beside, None, f"must hold {{'labels': [...]}}: {error!r}") from error
    found = {record["label"] for _, record in records}
    if all(isinstance(label, str) for label in found):
        return tuple(sorted(found))
    if any(isinstance(label, str) for label in found):
        raise DataError(path, None, "mixes label names and label indices")
    return tuple(str(index) for index in range(max(found) + 1))
