"""Text with labels, checked to the last line before anything is trained.

What a label is, a name or an index, is told in `labels`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offramp.training.labels import declared_names, indexed_names, name_of, names_of
from offramp.training.records import Columns, DataError, Source, has_surrogates, read_source

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
    found = _read(source, columns, labelled=True)
    own = declared_names(source, found)
    given = own if labels is None else tuple(labels)
    values = [(place, record[columns.label]) for place, record in found.records]
    names = names_of(source, values) if given is None else given
    index = {name: position for position, name in enumerate(names)}
    indexed = indexed_names(values, names) if own is None else own
    examples: list[Example] = []
    for place, record in found.records:
        name = name_of(source, place, record[columns.label], indexed)
        if name not in index:
            raise DataError(source, place, f"label {name!r} is not one of {list(names)}")
        if seen is not None and index[name] not in seen:
            raise DataError(source, place, f"label {name!r} has no training example")
        examples.append(_example(record, columns, index[name]))
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
        for _, record in _read(source, columns, labelled=False).records:
            examples.append(_example(record, columns, UNLABELLED))
    return tuple(examples)


def _example(record: Mapping[str, Any], columns: Columns, label: int) -> Example:
    return Example(record[columns.text], record.get(columns.text_pair), label)


def _read(source: str | Path, columns: Columns, *, labelled: bool) -> Source:
    """Its records, each of them checked."""
    found = read_source(source, columns)
    if not found.records:
        raise DataError(source, None, "holds no examples")
    pair = columns.text_pair
    if pair != COLUMNS.text_pair and not any(pair in record for _, record in found.records):
        raise DataError(source, None, f"has no second text in {pair!r}")
    for place, record in found.records:
        _check(source, place, record, columns, labelled=labelled)
    return found


def _check(
    source: str | Path, place: int, record: Mapping[str, Any], columns: Columns, *, labelled: bool
) -> None:
    text = record.get(columns.text)
    if not isinstance(text, str) or not text.strip():
        raise DataError(source, place, f"has no text in {columns.text!r}")
    if not isinstance(record.get(columns.text_pair), str | None):
        raise DataError(source, place, f"{columns.text_pair} must be a text or null")
    for column in (columns.text, columns.text_pair):
        if has_surrogates(record.get(column) or ""):
            raise DataError(source, place, f"{column!r} holds half a character (a lone surrogate)")
    label = record.get(columns.label)
    if labelled and (not isinstance(label, str | int) or isinstance(label, bool) or label == ""):
        raise DataError(source, place, f"has no label in {columns.label!r} (a name or an index)")
