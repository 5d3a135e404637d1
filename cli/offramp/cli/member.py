"""One of the servers of `offramp serve --processes`, as processes.py starts it."""

import asyncio
import os
import signal
import sys

from offramp.cli.processes import LINE, WORD
from offramp.cli.serve import run
from offramp.cli.serve_options import config_of, parser


def main() -> int:
    """Serve until told to end, or until the line to whoever started us does."""
    args = parser().parse_args()
    return run(args, config_of(args), _serves, _tell)


def _serves(address: str) -> None:
    """Tell whoever started us, and end when it does."""
    del address
    _tell()
    asyncio.get_running_loop().add_reader(LINE, _alone)


def _tell() -> None:
    os.write(LINE, WORD)


def _alone() -> None:
    asyncio.get_running_loop().remove_reader(LINE)
    signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
