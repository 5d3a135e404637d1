"""What the label of a record means.

A label is a name or an index. Names of indices come from the source itself (a Hugging Face
dataset) or from a `labels.json` beside the file (`{"labels": [...]}`). Without either the labels
found are the names: texts in alphabetical order, integers, which may be any from 0, by value.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from offramp.training.records import DataError, Source

Placed = Sequence[tuple[int, str | int]]
"""Labels as they stand in the records, with the places of these."""


def declared_names(source: str | Path, found: Source) -> tuple[str, ...] | None:
    """The names that a source or the file beside it declares; raises DataError of a broken one."""
    if found.label_names is not None:
        return found.label_names
    beside = Path(source).parent / "labels.json"
    if not beside.is_file():
        return None
    try:
        return tuple(str(name) for name in json.loads(beside.read_text("utf-8"))["labels"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(beside, None, f"must hold {{'labels': [...]}}: {error!r}") from error


def names_of(source: str | Path, labels: Placed) -> tuple[str, ...]:
    """The names where none are declared; raises DataError of a mixture and of negative ones."""
    first = labels[0][1]
    for place, label in labels:
        if isinstance(label, str) != isinstance(first, str):
            raise DataError(source, place, "mixes label names and label indices")
        if isinstance(label, int) and label < 0:
            raise DataError(source, place, f"label {label} is not in 0 to the highest index")
    texts = sorted({label for _, label in labels if isinstance(label, str)})
    numbers = sorted({label for _, label in labels if isinstance(label, int)})
    return (*texts, *map(str, numbers))


def indexed_names(labels: Placed, names: tuple[str, ...]) -> tuple[str, ...] | None:
    """What the integers of a source that declares nothing are indices of: `names`.

    None where one of them is a name itself, such as 4711: then all of them are.
    """
    numbers = {str(label) for _, label in labels if isinstance(label, int)}
    return None if numbers.intersection(names) else names


def name_of(source: str | Path, place: int, label: str | int, indexed: Sequence[str] | None) -> str:
    """The name that a label is, or is the index of among `indexed`; raises DataError."""
    if isinstance(label, str) or indexed is None:
        return str(label)
    if not 0 <= label < len(indexed):
        raise DataError(source, place, f"label {label} is not in 0 to {len(indexed) - 1}")
    return indexed[label]
