"""Texts from files and pipes: one a line, or JSON Lines; read as they are needed.

Bytes that are not UTF-8 are kept as lone surrogates, so that their text fails alone, in its place.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from offramp.client import Text

OTHERS = (".csv", ".tsv", ".json", ".ndjson", ".parquet")
"""Endings of files whose lines are not texts."""


def read_file(path: Path) -> Iterator[Text]:
    """The texts of a file; `.jsonl` holds objects with a text, all else a text a line.

    Either may be gzipped. Raises OSError, or ValueError naming the line that is no such object,
    the file that ends too soon or one that is a table.
    """
    try:
        yield from _read(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: is broken: {error}") from error


def _read(path: Path) -> Iterator[Text]:
    whole = path.name.lower()
    name = whole.removesuffix(".gz")
    if name.endswith(OTHERS):
        raise ValueError(f"{path}: give a text a line, or .jsonl of objects with a text")
    with (gzip.open if name != whole else open)(path, "rb") as file:
        lines = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape")
        if not name.endswith(".jsonl"):
            yield from _texts(lines)
            return
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _parsed(line, f"{path}:{number}")


def read_stream(stream: TextIO) -> Iterator[Text]:
    """The lines of a stream such as standard input."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8-sig", errors="surrogateescape")
    return _texts(stream)


def _texts(lines: Iterable[str]) -> Iterator[str]:
    return (line.rstrip("\r\n") for line in lines if line.strip())


def _parsed(line: str, place: str) -> Text:
    try:
        record: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: is not JSON: {error.msg} (column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: is not readable as JSON: {error}") from error
    match record:
        case {"text": str(text), "text_pair": str(pair)}:
            return text, pair
        case {"text": str(text)} if record.get("text_pair") is None:
            return text
        case _:
            raise ValueError(
                f"{place}: must be a JSON object whose text, and text_pair if any, are strings"
            )
