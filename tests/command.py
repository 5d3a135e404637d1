"""The `offramp` command in a process of its own, as a user or a container starts it."""

import io
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from offramp.cli.main import main

COMMAND = (sys.executable, "-m", "offramp.cli.main")


def offramp(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)


def run(*arguments: str | Path) -> int:
    """Run it in this process; returns the exit status."""
    return main(list(map(str, arguments)))


@cache
def help_of(verb: str) -> str:
    """What `offramp VERB --help` prints."""
    out = io.StringIO()
    with suppress(SystemExit), redirect_stdout(out):
        main([verb, "--help"])
    return out.getvalue()


@dataclass(frozen=True, slots=True)
class Served:
    """A running `offramp serve` and where it listens."""

    process: subprocess.Popen[str]
    address: str


@contextmanager
def served(*arguments: str | Path) -> Generator[Served]:
    """`offramp serve` on a free port, once it says where."""
    command = [*COMMAND, "serve", "--address", "127.0.0.1:0", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.fullmatch(r"offramp serves on (\S+)\n", line)
            assert found, line
            yield Served(process, found.group(1))
        finally:
            process.kill()
