"""`offramp serve`: checkpoints behind a gRPC port, until SIGTERM."""

import asyncio
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from offramp.cli.outputs import no_more_output
from offramp.cli.processes import together
from offramp.cli.serve_options import config_of, parser
from offramp.server.starter import Starter


def main(arguments: Sequence[str]) -> int:
    """Serve; returns the exit status."""
    args = parser().parse_args(arguments)
    try:
        config = config_of(args)
        if config.processes > 1:
            if find_spec("torch") is None:  # which the servers need, if not this process
                raise ModuleNotFoundError(name="torch")
            return asyncio.run(together(arguments, config, _announce))
    except (OSError, ValueError) as error:
        print(f"offramp serve: {error}", file=sys.stderr)
        return 1
    from offramp.cli.serving import run  # noqa: PLC0415 - torch, if this process needs it

    return run(args, config, Starter(_announce))


def _announce(address: str) -> None:
    try:
        print(f"offramp serves on {address}", flush=True)
    except OSError:  # whoever read it may be gone, or its disk full: that is no reason to end
        no_more_output()
