"""One server in this process, alone or as one of several."""

import argparse
import asyncio
import os
import sys
from contextlib import suppress

import uvloop

from offramp.model.errors import ModelError
from offramp.server.app import serve
from offramp.server.config import ServerConfig
from offramp.server.starter import Starter
from offramp.server.telemetry.logs import LogFormat, configure_logging
from offramp.server.telemetry.setup import OFF, Telemetry, configure
from offramp.server.vitals import ModelLostError


def run(args: argparse.Namespace, config: ServerConfig, starter: Starter) -> int:
    """Serve until told to end; returns the exit status."""
    telemetry = OFF
    try:
        telemetry = configure(log_texts=args.log_texts)
        configure_logging(LogFormat(args.log_format), telemetry.logs)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(config, starter, telemetry))
    except (ModelError, OSError, ValueError) as error:
        print(f"offramp serve: {error}", file=sys.stderr)
        return 1
    finally:
        telemetry.close()
    return 0


async def _serve(config: ServerConfig, starter: Starter, telemetry: Telemetry) -> None:
    try:
        await serve(config, starter, telemetry)
    except ModelLostError as error:
        # A thread that hangs in its step would be waited for wherever else this ended.
        telemetry.close()
        with suppress(OSError):
            print(f"offramp serve: {error}", file=sys.stderr, flush=True)
        os._exit(1)
