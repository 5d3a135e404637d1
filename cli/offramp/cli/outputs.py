"""What a command writes: files and directories, looked at before it starts to work, and output."""

import os
import sys
from pathlib import Path

IMAGES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp")
"""What plots can be drawn as."""


def no_more_output() -> None:
    """Let what is still printed, or is in the buffer, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def check_directory(path: Path) -> None:
    """Raise ValueError where the directory is not there and writable, and cannot be made."""
    there = next(one for one in (path, *path.parents) if os.access(one, os.F_OK))
    if not there.is_dir():
        raise ValueError(f"cannot write to {path}: {there} is not a directory")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write to {path}: {there} is not writable")


def check_file(path: Path | None, kinds: tuple[str, ...] = ()) -> None:
    """Raise ValueError where the file, if any, cannot be written or is of none of the kinds."""
    if path is None:
        return
    if kinds and path.suffix.lower() not in kinds:
        raise ValueError(f"cannot draw {path}: its name must end in {', '.join(kinds)}")
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a directory")
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: there is no directory {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"cannot write {path}: it is not writable")
