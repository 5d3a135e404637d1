"""`offramp serve`: checkpoints behind a gRPC port, until SIGTERM."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import uvloop

from offramp.cli.processes import together
from offramp.cli.serve_options import config_of, parser
from offramp.model.errors import ModelError
from offramp.server.app import serve
from offramp.server.config import ServerConfig
from offramp.server.telemetry.logs import LogFormat, configure_logging
from offramp.server.telemetry.setup import OFF, Telemetry, configure
from offramp.server.vitals import ModelLostError

Announce = Callable[[str], None]


def main(arguments: Sequence[str]) -> int:
    """Serve; returns the exit status."""
    args = parser().parse_args(arguments)
    try:
        config = config_of(args)
        if config.processes > 1:
            return asyncio.run(together(arguments, config, announce))
    except (OSError, ValueError) as error:
        return _refused(error)
    return run(args, config, announce)


def run(
    args: argparse.Namespace,
    config: ServerConfig,
    announce: Announce,
    swapped: Callable[[], object] = bool,
) -> int:
    """Serve in this process, alone or as one of several; returns the exit status."""
    telemetry = OFF
    try:
        telemetry = configure(log_texts=args.log_texts)
        configure_logging(LogFormat(args.log_format), telemetry.logs)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(config, announce, telemetry, swapped))
    except (ModelError, OSError, ValueError) as error:
        return _refused(error)
    finally:
        telemetry.close()
    return 0


async def _serve(
    config: ServerConfig, announce: Announce, telemetry: Telemetry, swapped: Callable[[], object]
) -> None:
    try:
        await serve(config, announce, telemetry, swapped)
    except ModelLostError as error:
        # A thread that hangs in its step would be waited for wherever else this ended.
        telemetry.close()
        with suppress(OSError):
            print(f"offramp serve: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def announce(address: str) -> None:
    """Tell whoever started us where it serves."""
    print(f"offramp serves on {address}", flush=True)


def _refused(error: Exception) -> int:
    print(f"offramp serve: {error}", file=sys.stderr)
    return 1
