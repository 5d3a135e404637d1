"""`offramp serve`: checkpoints behind a gRPC port, until SIGTERM."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from offramp.model.errors import ModelError
from offramp.model.runner import Precision
from offramp.server.app import serve
from offramp.server.config import Limits, ServerConfig
from offramp.server.telemetry.logs import LogFormat, configure_logging
from offramp.server.telemetry.setup import OFF, configure

LIMITS = Limits()


def main(arguments: Sequence[str]) -> int:
    """Serve; returns the exit status."""
    args = _parser().parse_args(arguments)
    telemetry = OFF
    try:
        telemetry = configure(log_texts=args.log_texts)
        configure_logging(LogFormat(args.log_format), telemetry.logs)
        config = ServerConfig(
            address=args.address,
            checkpoints=tuple(args.checkpoint),
            device=args.device,
            threads=args.threads,
            precision=Precision(args.precision),
            limits=Limits(
                slots=args.slots,
                max_batch_rows=args.max_batch_rows,
                max_batch_tokens=args.max_batch_tokens,
                max_queue_requests=args.max_queue_requests,
            ),
            drain_pause=args.drain_pause,
            drain_grace=args.drain_grace,
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(config, _announce, telemetry))
    except (ModelError, OSError, ValueError) as error:
        print(f"offramp serve: {error}", file=sys.stderr)
        return 1
    finally:
        telemetry.close()
    return 0


def _announce(address: str) -> None:
    print(f"offramp serves on {address}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="offramp serve",
        description=__doc__,
        epilog="Metrics, traces and logs go where the OTEL_* environment variables say, for one"
        " OTEL_METRICS_EXPORTER=prometheus; see docs/telemetry.md.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        type=Path,
        action="append",
        required=True,
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="checkpoint to serve under its directory's name; repeat for more, first is default",
    )
    add("--address", default="127.0.0.1:50051", help="HOST:PORT; port 0 picks a free one")
    add("--device", default="cpu", help="torch device, such as cpu or cuda")
    add("--threads", type=int, default=0, help="threads of one step; 0: torch decides")
    add(
        "--precision",
        choices=list(Precision),
        default=Precision.FLOAT32,
        help="of the large matrix products; accuracy of each in docs/performance.md",
    )
    add("--slots", type=int, default=LIMITS.slots, help="requests between stages at most")
    add("--max-batch-rows", type=int, default=LIMITS.max_batch_rows)
    add("--max-batch-tokens", type=int, default=LIMITS.max_batch_tokens)
    add("--max-queue-requests", type=int, default=LIMITS.max_queue_requests)
    add("--drain-pause", type=float, default=0.0, help="seconds for balancers after SIGTERM")
    add("--drain-grace", type=float, default=30.0, help="seconds to finish what is held")
    add("--log-format", choices=list(map(str, LogFormat)), default=str(LogFormat.TEXT))
    add("--log-texts", action="store_true", help="let failures tell the texts they are of")
    return parser
