"""The directory of a checkpoint: its files, name and digest, whatever is in them."""

import hashlib
import os
from pathlib import Path

from offramp.model.errors import CheckpointError

FILES = ("config.json", "model.safetensors", "tokenizer.json", "exits.json")


def is_checkpoint(directory: Path) -> bool:
    """Whether a directory means to be one of ours; loading it may still say what is wrong."""
    return (directory / "exits.json").is_file()


def name_of(directory: Path) -> str:
    """The name of a checkpoint: its directory's, or that of a link to it, wherever that leads."""
    return Path(os.path.abspath(directory)).name  # noqa: PTH100 - resolve() would follow the link


def digest_of(directory: Path) -> str:
    """SHA-256 of the files of a checkpoint, in hex; raises CheckpointError if one is missing."""
    found = hashlib.sha256()
    for name in FILES:
        try:
            with (directory / name).open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise CheckpointError(directory / name, f"not readable: {error.strerror}") from error
    return found.hexdigest()


def stamps_of(directory: Path) -> list[tuple[int, int, int]]:
    """What a file that is written or replaced changes, of each that is there."""
    there = [path.stat() for name in FILES if (path := directory / name).exists()]
    return [(found.st_ino, found.st_size, found.st_mtime_ns) for found in there]
