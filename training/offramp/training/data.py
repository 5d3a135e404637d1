"""Text with labels, checked to the last line before anything is trained.

A label is a name or an index. Names of indices come from the source itself (a Hugging Face
dataset) or from a `labels.json` beside the file (`{"labels": [...]}`); names without either are
taken in alphabetical order.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offramp.training.records import Columns, DataError, Source, read_source

__all__ = [
    "UNLABELLED",
    "DataError",
    "Dataset",
    "Example",
    "load_dataset",
    "load_datasets",
    "load_unlabelled",
]

UNLABELLED = -1
"""The label of an example that has none."""

COLUMNS = Columns()


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

    @property
    def labels_seen(self) -> frozenset[int]:
        """Indices of the labels that at least one example has."""
        return frozenset(example.label for example in self.examples)


def load_dataset(
    source: str | Path,
    labels: Sequence[str] | None = None,
    columns: Columns = COLUMNS,
    seen: Collection[int] | None = None,
) -> Dataset:
    """Read a labelled source; `labels` fixes the names, as for a dev file beside its train file.

    With `seen`, a label that is not among these indices is an error: nothing was trained on it.
    Raises DataError on the first thing wrong.
    """
    found = read_source(source, columns)
    if not found.records:
        raise DataError(source, None, "holds no examples")
    for place, record in found.records:
        _check(source, place, record, columns, labelled=True)
    names = tuple(labels) if labels is not None else _label_names(source, found, columns)
    index = {name: position for position, name in enumerate(names)}
    examples: list[Example] = []
    for place, record in found.records:
        label = record[columns.label]
        if isinstance(label, str):
            if label not in index:
                raise DataError(source, place, f"label {label!r} is not one of {list(names)}")
            label = index[label]
        elif not 0 <= label < len(names):
            raise DataError(source, place, f"label {label} is not in 0 to {len(names) - 1}")
        if seen is not None and label not in seen:
            raise DataError(source, place, f"label {names[label]!r} has no training example")
        examples.append(_example(record, columns, label))
    return Dataset(tuple(examples), names)


def load_datasets(sources: Sequence[str | Path], columns: Columns = COLUMNS) -> Dataset:
    """Read several sources as one; all have the labels of the first."""
    first, *others = sources
    dataset = load_dataset(first, columns=columns)
    examples = list(dataset.examples)
    for source in others:
        examples.extend(load_dataset(source, dataset.labels, columns).examples)
    return Dataset(tuple(examples), dataset.labels)


def load_unlabelled(
    sources: Sequence[str | Path], columns: Columns = COLUMNS
) -> tuple[Example, ...]:
    """Read texts alone from sources of the same form; labels are ignored where there are any."""
    examples: list[Example] = []
    for source in sources:
        for place, record in read_source(source, columns).records:
            _check(source, place, record, columns, labelled=False)
            examples.append(_example(record, columns, UNLABELLED))
    return tuple(examples)


def _example(record: Mapping[str, Any], columns: Columns, label: int) -> Example:
    return Example(record[columns.text], record.get(columns.text_pair), label)


def _check(
    source: str | Path, place: int, record: Mapping[str, Any], columns: Columns, *, labelled: bool
) -> None:
    text = record.get(columns.text)
    if not isinstance(text, str) or not text.strip():
        raise DataError(source, place, f"has no text in {columns.text!r}")
    if not isinstance(record.get(columns.text_pair), str | None):
        raise DataError(source, place, f"{columns.text_pair} must be a text or null")
    label = record.get(columns.label)
    if labelled and (not isinstance(label, str | int) or isinstance(label, bool) or label == ""):
        raise DataError(source, place, f"has no label in {columns.label!r} (a name or an index)")


def _label_names(source: str | Path, found: Source, columns: Columns) -> tuple[str, ...]:
    if found.label_names is not None:
        return found.label_names
    beside = Path(source).parent / "labels.json"
    if beside.is_file():
        try:
            return tuple(str(name) for name in json.loads(beside.read_text("utf-8"))["labels"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(beside, None, f"must hold {{'labels': [...]}}: {error!r}") from error
    labels = {record[columns.label] for _, record in found.records}
    if all(isinstance(label, str) for label in labels):
        return tuple(sorted(labels))
    if any(isinstance(label, str) for label in labels):
        raise DataError(source, None, "mixes label names and label indices")
    return tuple(str(index) for index in range(max(labels) + 1))
