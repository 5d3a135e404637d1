"""Text with labels, checked to the last line before anything is trained.

What a label is, a name or an index, is told in `labels`.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offramp.training.labels import (
    declared_names,
    indexed_names,
    label_of,
    name_of,
    names_of,
    refuse_missing,
)
from offramp.training.records import (
    INTEGER,
    Columns,
    DataError,
    Source,
    has_surrogates,
    read_source,
)

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

    @property
    def inputs(self) -> frozenset[tuple[str, str | None]]:
        """The different inputs."""
        return frozenset(example.pair for example in self.examples)

    @property
    def contradictions(self) -> int:
        """How many inputs have more than one label."""
        different = {(example.pair, example.label) for example in self.examples}
        labels = Counter(pair for pair, _ in different)
        return sum(count > 1 for count in labels.values())

    @property
    def pairs(self) -> bool:
        """Whether the inputs are pairs of texts: all are, or none."""
        return self.examples[0].text_pair is not None


def load_dataset(
    source: str | Path,
    labels: Sequence[str] | None = None,
    columns: Columns = COLUMNS,
    seen: Collection[int] | None = None,
    *,
    pairs: bool | None = None,
) -> Dataset:
    """Read a labelled source; `labels` fixes the names, as for a dev file beside its train file.

    With `seen`, a label that is not among these indices is an error: nothing was trained on it.
    So are single texts where `pairs` says that these are to be pairs, and the reverse. Raises
    DataError on the first thing wrong.
    """
    return _load(source, labels, columns, seen, pairs=pairs)


def load_datasets(
    sources: Sequence[str | Path],
    columns: Columns = COLUMNS,
    labels: Sequence[str] | None = None,
    *,
    pairs: bool | None = None,
) -> Dataset:
    """Read several sources as one; where `labels` are not given all have those of the first."""
    first, *others = sources
    advice = f"; all sources have the labels of {first}, and a labels.json beside it can name them"
    advice = advice if others and labels is None else ""
    dataset = _load(first, labels, columns, pairs=pairs, advice=advice)
    examples = list(dataset.examples)
    for source in others:
        other = _load(source, dataset.labels, columns, pairs=dataset.pairs, advice=advice)
        examples.extend(other.examples)
    return Dataset(tuple(examples), dataset.labels)


def load_unlabelled(
    sources: Sequence[str | Path], columns: Columns = COLUMNS, *, pairs: bool | None = None
) -> tuple[Example, ...]:
    """Read texts alone from sources of the same form; labels are ignored where there are any."""
    examples: list[Example] = []
    for source in sources:
        for _, record in _read(source, columns, pairs=pairs).records:
            examples.append(_example(record, columns, UNLABELLED))
    return tuple(examples)


def _load(
    source: str | Path,
    labels: Sequence[str] | None,
    columns: Columns,
    seen: Collection[int] | None = None,
    *,
    pairs: bool | None = None,
    advice: str = "",
) -> Dataset:
    found = _read(source, columns, pairs=pairs)
    values = [
        (place, label_of(source, place, record.get(columns.label), columns.label))
        for place, record in found.records
    ]
    own = declared_names(source, found)
    given = own if labels is None else tuple(labels)
    if found.separated:
        refuse_missing(source, values, {*(own or ()), *(given or ())})
    names = names_of(source, values) if given is None else given
    if labels is None and len(names) == 1:
        raise DataError(source, None, f"has one label only, {names[0]!r}; it takes two{advice}")
    index = {name: position for position, name in enumerate(names)}
    indexed = indexed_names(found, values, own, names)
    named = [(place, name_of(source, place, label, indexed)) for place, label in values]
    unknown = [(place, name) for place, name in named if name not in index]
    if unknown:
        # One stray word makes names of a whole column of integers: it is the word to show.
        place, name = min(unknown, key=lambda one: INTEGER.fullmatch(one[1]) is not None)
        if all(map(INTEGER.fullmatch, names)) and not INTEGER.fullmatch(name):
            advice = advice or "; a labels.json beside the training data names its integers"
        raise DataError(source, place, f"label {name!r} is not one of {list(names)}{advice}")
    examples: list[Example] = []
    for (place, name), (_, record) in zip(named, found.records, strict=True):
        if seen is not None and index[name] not in seen:
            raise DataError(source, place, f"label {name!r} has no training example")
        examples.append(_example(record, columns, index[name]))
    return Dataset(tuple(examples), names)


def _example(record: Mapping[str, Any], columns: Columns, label: int) -> Example:
    return Example(record[columns.text], _second(record, columns), label)


def _second(record: Mapping[str, Any], columns: Columns) -> str | None:
    """The second text, where there is one: a blank one is none, as an empty cell is."""
    text: str | None = record.get(columns.text_pair)
    return text if text is not None and text.strip() else None


def _read(source: str | Path, columns: Columns, *, pairs: bool | None) -> Source:
    """Its records, the texts of each of them checked, all pairs or none, as `pairs` says."""
    found = read_source(source, columns)
    if not found.records:
        raise DataError(source, None, "holds no examples")
    for place, record in found.records:
        _check(source, place, record, columns)
    pair = columns.text_pair
    single = [place for place, record in found.records if _second(record, columns) is None]
    none = len(single) == len(found.records)
    if none and pair != COLUMNS.text_pair:
        raise DataError(source, None, f"has no second text in {pair!r}")
    if single and not none:
        raise DataError(source, single[0], f"has no second text in {pair!r}, where others have one")
    if none and pairs:
        raise DataError(source, None, f"has no second text in {pair!r}; name it by --pair-column")
    if not none and pairs is False:
        raise DataError(
            source, None, f"has a second text in {pair!r}, where single texts are expected"
        )
    return found


def _check(source: str | Path, place: int, record: Mapping[str, Any], columns: Columns) -> None:
    text = record.get(columns.text)
    if text is not None and not isinstance(text, str):
        raise DataError(source, place, f"{columns.text} is {str(text)[:40]}, which is no text")
    if text is None or not text.strip():
        named = f": name one of {', '.join(record)} by --text-column"
        absent = columns.text not in record and any(record)
        raise DataError(source, place, f"has no text in {columns.text!r}{named if absent else ''}")
    if not isinstance(record.get(columns.text_pair), str | None):
        raise DataError(source, place, f"{columns.text_pair} must be a text or null")
    for column in (columns.text, columns.text_pair):
        if has_surrogates(record.get(column) or ""):
            raise DataError(source, place, f"{column!r} holds half a character (a lone surrogate)")
