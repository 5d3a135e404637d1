"""The options of `offramp bench`, and which of them can be meant together."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from offramp.cli.access import add_access
from offramp.cli.defaults import DefaultsFormatter
from offramp.cli.load.arrivals import Pattern
from offramp.cli.numbers import check_above_zero, check_at_least_one

TIMEOUT = 30.0
RATE = 50.0
SECONDS = 20.0
MOST_MESSAGES = 10_000_000
"""Due times that are drawn before a run begins."""


def parse(arguments: Sequence[str], description: str | None) -> argparse.Namespace:
    """Read the arguments; exits where they are none."""
    return _parser(description).parse_args(arguments)


def check(args: argparse.Namespace) -> None:
    """Raise ValueError where an option would have no say, or no run can have its number.

    Rate and length of the run are what they are by default from then on, where none are given.
    """
    _check_numbers(args)
    given = {
        "--rate": args.rate is not None,
        "--trace": args.trace is not None,
        "--in-flight": args.in_flight is not None,
        "--saturate": args.saturate,
    }
    loads = [name for name, told in given.items() if told]
    if len(loads) > 1:
        raise ValueError(f"{' and '.join(loads)} are different loads; give one of them")
    if args.in_flight is not None and args.stream:
        raise ValueError("--in-flight counts calls; fill streams with --stream --saturate")
    if args.pattern is not None and len(loads) == 1 and loads[0] != "--rate":
        raise ValueError(f"--pattern is how a --rate comes; leave it or {loads[0]} out")
    if args.streams != 1 and not args.stream:
        raise ValueError("--streams counts streams; give --stream too")
    if args.connections > args.streams and args.stream:
        raise ValueError(f"{args.streams} streams go over no more connections; give more --streams")
    if args.timeout is not None and args.stream:
        raise ValueError("--timeout is a call's; a stream has none")
    if args.seed is not None and loads and loads[0] != "--rate":
        raise ValueError(f"--seed draws when a --rate comes; leave it or {loads[0]} out")
    if args.seconds is not None and args.trace is not None:
        raise ValueError("a --trace says how long it is; leave --seconds out")
    if args.adapter:
        _check_adapter(args)
    if not loads:
        args.rate = RATE
    if args.seconds is None:
        args.seconds = SECONDS
    if args.rate is not None and (messages := args.rate * args.seconds) > MOST_MESSAGES:
        raise ValueError(
            f"{messages:g} messages are more than the {MOST_MESSAGES:,} of a run; give a lower"
            " --rate or fewer --seconds"
        )


def _check_adapter(args: argparse.Namespace) -> None:
    """Raise ValueError of what an adapter is not told."""
    ours = {
        "--threshold": args.threshold is not None,
        "--model": args.model is not None,
        "--timeout": args.timeout is not None,
        "--tls": args.tls,
        "--ca": args.ca is not None,
        "--token-file": args.token_file is not None,
    }
    told = [name for name, given in ours.items() if given]
    if told:
        raise ValueError(f"an --adapter is given an address alone; leave {', '.join(told)} out")


def _check_numbers(args: argparse.Namespace) -> None:
    """Raise ValueError of a number that no run can have."""
    check_above_zero("--seconds", args.seconds)
    check_above_zero("--rate", args.rate)
    check_above_zero("--timeout", args.timeout)
    check_at_least_one("--in-flight", args.in_flight)
    check_at_least_one("--streams", args.streams)
    check_at_least_one("--connections", args.connections)


def _parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="offramp bench",
        description=description,
        allow_abbrev=False,
        formatter_class=DefaultsFormatter,
    )
    add = parser.add_argument
    add("--address", default="127.0.0.1:50051", help="HOST:PORT of the server")
    add_access(add)
    add(
        "--texts",
        type=Path,
        metavar="FILE",
        required=True,
        help="a text a line, or .jsonl; each also .gz",
    )
    add(
        "--seconds",
        type=float,
        help=f"length of the run, or of each probe; {SECONDS:g} by default",
    )
    add(
        "--rate",
        type=float,
        metavar="R",
        help=f"texts a second, open loop; {RATE:g} if no load is given",
    )
    add("--pattern", choices=list(Pattern), help="bursty is ten to one; poisson by default")
    add(
        "--trace",
        type=Path,
        metavar="FILE",
        help="file of due times in seconds instead of rate and pattern",
    )
    add("--seed", type=int, metavar="K", help="draws when texts are due; 0 by default")
    add("--stream", action="store_true", help="over streams, not a call a text")
    add("--streams", type=int, metavar="N", default=1, help="streams at once")
    add(
        "--connections",
        type=int,
        metavar="N",
        default=1,
        help="calls and streams go over them in turn",
    )
    add(
        "--in-flight",
        type=int,
        metavar="N",
        help="closed loop with so many calls under way instead",
    )
    add(
        "--saturate",
        action="store_true",
        help="search the highest rate that is sustained; with --stream, keep the streams full",
    )
    add(
        "--threshold", type=float, metavar="X", help="score at which a text leaves; 1 is full depth"
    )
    add("--model", metavar="NAME", help="the served model; the server's first by default")
    add("--timeout", type=float, help=f"seconds a call may take; {TIMEOUT:g} by default")
    add(
        "--adapter",
        metavar="NAME",
        help="MODULE:CALLABLE that makes another server's target of the address",
    )
    add("--json", type=Path, metavar="FILE", help="write the figures and their circumstances")
    add("--plot", type=Path, metavar="FILE", help="write latency by percentile as SVG")
    return parser
