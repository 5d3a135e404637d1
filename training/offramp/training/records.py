"""Records as they come: JSON Lines, CSV, Parquet, or a dataset of the Hugging Face library.

What a source is follows from its name. Every record comes with its place (a line or a row), so
that whatever is wrong with it can be found.
"""

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

JSON_LINES = (".jsonl", ".jsonl.gz")
SEPARATED = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}
PARQUET = ".parquet"
SURROGATES = re.compile("[\ud800-\udfff]")
INTEGER = re.compile("0|-?[1-9][0-9]{0,17}")
"""An integer as it is always written; `01` is a name, and so are numbers too long for 64 bits."""
LONGEST_CELL = 2**24
"""Characters of a cell: those of several books; an unclosed quote swallows no more than these."""


class DataError(Exception):
    """Labelled data that cannot be used; names the source, the line or row, and the cause."""

    def __init__(self, source: str | Path, line: int | None, cause: str) -> None:
        super().__init__(f"{source}:{line}: {cause}" if line else f"{source}: {cause}")


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns that hold text, second text (where there is one) and label."""

    text: str = "text"
    text_pair: str = "text_pair"
    label: str = "label"


@dataclass(frozen=True, slots=True)
class Source:
    """All records of a source by their places, and the label names that it declares, if any.

    `separated` is CSV or TSV: a cell is always a text, so that integers and missing values are
    known by their spelling alone.
    """

    records: tuple[tuple[int, Mapping[str, Any]], ...]
    label_names: tuple[str, ...] | None = None
    separated: bool = False


def read_source(source: str | Path, columns: Columns) -> Source:
    """Read a file or a dataset `NAME:SPLIT` or `NAME:CONFIG:SPLIT`; raises DataError.

    A name is a hub's, or a directory that the `datasets` library loads.
    """
    path, name = Path(source), str(source)
    try:
        if name.endswith(JSON_LINES):
            with _open(path) as file:
                return Source(tuple(_json_lines(path, file)))
        for suffix, delimiter in SEPARATED.items():
            if name.endswith(suffix):
                with _open(path) as file:
                    return _separated(path, file, delimiter, columns)
        if name.endswith(PARQUET):
            return _parquet(path)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(path, None, f"cannot be read: {error}") from error
    if path.is_file() or ":" not in name:
        endings = ", ".join((*JSON_LINES, *SEPARATED, PARQUET))
        raise DataError(
            source, None, f"is no file that ends in {endings}, nor a dataset's NAME:SPLIT"
        )
    return _hugging_face(name, columns)


def has_surrogates(text: str) -> bool:
    """Whether a text holds halves of characters, which no encoding takes."""
    return SURROGATES.search(text) is not None


def _open(path: Path) -> TextIO:
    """The file as text; bytes that are not UTF-8 stand in it as lone surrogates."""
    opener = gzip.open if path.suffix == ".gz" else open
    file = opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")
    return cast("TextIO", file)


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        if has_surrogates(line):
            raise DataError(path, number, "cannot be read: is not UTF-8")
        yield line


def _json_lines(path: Path, file: TextIO) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(_lines(path, file), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            told = f"is not JSON: {error.msg} (column {error.colno}); give one object a line"
            raise DataError(path, number, told) from error
        except (ValueError, RecursionError) as error:
            raise DataError(path, number, f"is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise DataError(path, number, "must be a JSON object with text and label")
        yield number, record


def _separated(path: Path, file: TextIO, delimiter: str, columns: Columns) -> Source:
    reader = csv.reader(_lines(path, file), delimiter=delimiter, strict=True)
    records: list[tuple[int, dict[str, Any]]] = []
    limit = csv.field_size_limit(LONGEST_CELL)
    starts = 1  # the line that a row begins in, which may have others in its cells
    try:
        header = next(filter(None, reader), None)
        if header is None:
            raise DataError(path, None, "holds no examples")
        if columns.text not in header:
            raise DataError(
                path,
                1,
                f"has no column {columns.text!r}: name one of {', '.join(header)} by --text-column",
            )
        for column in (columns.text, columns.text_pair, columns.label):
            if header.count(column) > 1:
                raise DataError(path, 1, f"has {header.count(column)} columns {column!r}")
        starts = reader.line_num + 1
        for row in reader:
            if row and len(row) != len(header):
                raise DataError(path, starts, f"has {len(row)} cells, line 1 has {len(header)}")
            if row:
                records.append((starts, dict(zip(header, row, strict=True))))
            starts = reader.line_num + 1
    except csv.Error as error:
        raise DataError(path, starts, f"is not readable as CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)
    # One cell that is no integer makes names of all: 1 beside 01, or ratings beside "unknown".
    if all(INTEGER.fullmatch(record.get(columns.label, "").strip()) for _, record in records):
        records = [
            (line, {**record, columns.label: int(record[columns.label])})
            for line, record in records
        ]
    return Source(tuple(records), separated=True)


def _parquet(path: Path) -> Source:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - optional
    except ModuleNotFoundError:
        raise DataError(path, None, "needs pyarrow: pip install '.[data]'") from None
    try:
        rows = parquet.read_table(path).to_pylist()
    except ArrowException as error:
        raise DataError(path, None, f"is not readable as Parquet: {error}") from error
    return Source(tuple(enumerate(rows, start=1)))


def _hugging_face(source: str, columns: Columns) -> Source:
    name, *config, split = source.split(":")
    if len(config) > 1:
        raise DataError(source, None, "is not NAME:SPLIT or NAME:CONFIG:SPLIT")
    try:
        from datasets import ClassLabel, load_dataset  # noqa: PLC0415 - optional
    except ModuleNotFoundError:
        raise DataError(
            source, None, "is no file; a dataset needs: pip install '.[data]'"
        ) from None
    try:
        dataset = load_dataset(name, *config, split=split)
    except Exception as error:
        raise DataError(source, None, f"cannot be loaded: {error}") from error
    feature = (dataset.features or {}).get(columns.label)
    names = tuple(feature.names) if isinstance(feature, ClassLabel) else None
    rows = (cast("Mapping[str, Any]", row) for row in dataset)
    return Source(tuple(enumerate(rows, start=1)), names)
