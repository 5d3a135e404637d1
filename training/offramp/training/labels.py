"""What the label of a record means.

A label is a name or an index. Names of indices come from the source itself (a Hugging Face
dataset) or from a `labels.json` beside the file (`{"labels": [...]}`). Without either the labels
found are the names: texts in alphabetical order, integers, which may be any from 0, by value. All
cells of a CSV file are texts: a column of nothing but integers holds integers, any other names.
"""

import json
import math
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from offramp.training.records import DataError, Source, has_surrogates

Placed = Sequence[tuple[int, str | int]]
"""Labels as they stand in the records, with the places of these."""

NUMBER = re.compile("-?[0-9]+")
MISSING = frozenset({"NaN", "nan", "NA", "N/A", "<NA>", "NULL", "null", "None"})
"""What programs write into a cell that has no value."""


def declared_names(source: str | Path, found: Source) -> tuple[str, ...] | None:
    """The names that a source or the file beside it declares; raises DataError of a broken one."""
    if found.label_names is not None:
        return found.label_names
    beside = Path(source).parent / "labels.json"
    if not Path(source).is_file() or not beside.is_file():
        return None
    try:
        held = json.loads(beside.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(beside, None, f"cannot be read: {error}") from error
    names = held.get("labels") if isinstance(held, dict) else None
    if not isinstance(names, list) or not names:
        raise DataError(beside, None, 'must hold {"labels": [...]}, a list of names')
    known: dict[str, None] = {}
    for number, name in enumerate(names, start=1):
        text = str(name)
        if isinstance(name, bool) or not isinstance(name, str | int) or not text.strip():
            raise DataError(beside, None, f"label {number} is {name!r}, which is no name")
        if has_surrogates(text):
            raise DataError(
                beside, None, f"label {number}, {text!r}, holds half a character (a lone surrogate)"
            )
        if text in known:
            raise DataError(beside, None, f"label {number}, {text!r}, is there already")
        known[text] = None
    return tuple(known)


def label_of(source: str | Path, place: int, value: object, column: str) -> str | int:
    """The label that stands in a record, a name or an integer; raises DataError where none does."""
    if isinstance(value, float) and math.isfinite(value):
        if not value.is_integer():
            raise DataError(source, place, f"label {value} is not a whole number")
        value = int(value)
    if isinstance(value, bool | list | dict):
        told = json.dumps(value, default=str)[:40]
        raise DataError(source, place, f"label {told} is neither a name, in quotes, nor an integer")
    if not isinstance(value, str | int) or not str(value).strip():
        raise DataError(
            source,
            place,
            f"has no label, a name or an index, in {column!r}; --label-column names another",
        )
    if isinstance(value, str) and has_surrogates(value):
        raise DataError(source, place, f"{column!r} holds half a character (a lone surrogate)")
    return value


def refuse_missing(source: str | Path, labels: Placed, known: Collection[str]) -> None:
    """Raises DataError of a cell that reads as a missing value and is none of the known names."""
    for place, label in labels:
        if isinstance(label, str) and label.strip() in MISSING and label not in known:
            raise DataError(
                source,
                place,
                f"label {label!r} is how a missing value is written: leave the record out, or, "
                "where it is a name, list it in a labels.json beside the file",
            )


def names_of(source: str | Path, labels: Placed) -> tuple[str, ...]:
    """The names where none are declared; raises DataError of a mixture and of negative ones."""
    first = labels[0][1]
    for place, label in labels:
        if isinstance(label, str) != isinstance(first, str):
            raise DataError(source, place, "mixes label names and label indices")
        if isinstance(label, int) and label < 0:
            raise DataError(
                source,
                place,
                f"label {label} is negative, neither an index nor a name: leave the record out "
                "where it stands for no label, else list it in a labels.json beside the file",
            )
    texts = sorted({label for _, label in labels if isinstance(label, str)})
    bare: dict[str, str] = {}
    for name in texts:
        if (other := bare.setdefault(name.strip(), name)) != name:
            places = [next(at for at, label in labels if label == one) for one in (other, name)]
            told = f"labels {other!r} and {name!r} differ by spaces alone"
            raise DataError(source, max(places), told)
    numbers = sorted({label for _, label in labels if isinstance(label, int)})
    return (*texts, *map(str, numbers))


def indexed_names(
    found: Source, labels: Placed, own: tuple[str, ...] | None, names: tuple[str, ...]
) -> tuple[str, ...] | None:
    """What the integers of a source are indices of: the names it declares, else those in use.

    None where they are names themselves: one of them is a name in use, such as 4711, cells spell
    names that are declared, or all names are numbers, other than those of the indices.
    """
    if found.label_names is not None:
        return found.label_names
    indexed = names if own is None else own
    numbers = {str(label) for _, label in labels if isinstance(label, int)}
    spelt = not numbers.isdisjoint(names) if own is None else found.separated and numbers <= {*own}
    counted = {*indexed} == set(map(str, range(len(indexed))))
    if spelt or (not counted and all(map(NUMBER.fullmatch, indexed))):
        return None
    return indexed


def name_of(source: str | Path, place: int, label: str | int, indexed: Sequence[str] | None) -> str:
    """The name that a label is, or is the index of among `indexed`; raises DataError."""
    if isinstance(label, str) or indexed is None:
        return str(label)
    if not 0 <= label < len(indexed):
        raise DataError(source, place, f"label {label} is not in 0 to {len(indexed) - 1}")
    return indexed[label]
