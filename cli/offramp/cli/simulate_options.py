"""The options of `offramp simulate`, and which of them can be meant together."""

import argparse
from collections.abc import Sequence
from math import inf
from pathlib import Path

from offramp.cli.columns import add_columns, columns_told
from offramp.cli.defaults import DefaultsFormatter
from offramp.cli.numbers import check_above_zero, check_at_least_one
from offramp.cli.outputs import IMAGES, check_file
from offramp.scheduler.rules import Rule, rules

SHARES = (0.465, 0.094, 0.113, 0.115, 0.032, 0.181)
FIXED_COST, ROW_COST = 64.0, 1.0
REQUESTS = 20_000


def parse(arguments: Sequence[str], description: str | None) -> argparse.Namespace:
    """Read the arguments; exits where they are none."""
    return _parser(description).parse_args(arguments)


def check(args: argparse.Namespace) -> None:
    """Raise ValueError where options exclude each other, or one is out of its range."""
    _check_numbers(args)
    own = [name for name in ("plot", "load", "rate", "arrivals") if getattr(args, name) is not None]
    if args.trace and own:
        raise ValueError(
            f"a --trace has arrivals and a load of its own; leave it or --{own[0]} out"
        )
    if args.rate is not None and args.load:
        raise ValueError("a --rate is a load; leave it or --load out")
    if args.p99 is not None:
        several = len(args.load or ()) > 1 or len(args.policy) > 1 or "all" in args.policy
        if several or args.plot:
            raise ValueError("--p99 asks of one policy at one load; give one of each and no --plot")
    if not args.checkpoint and (args.data or args.threshold is not None or columns_told(args)):
        raise ValueError(
            "--data, its columns and --threshold are of a measured checkpoint; name it,"
            " --checkpoint"
        )
    made_up = [name for name in ("fixed_cost", "row_cost", "exit_shares") if _told(args, name)]
    if args.checkpoint and made_up:
        option = made_up[0].replace("_", "-")
        raise ValueError(f"a --checkpoint is measured; leave it or --{option} out")
    if args.fail and args.deadline == inf:
        raise ValueError("--fail is at a --deadline; give one too")
    check_file(args.plot, IMAGES)
    chosen_rules(args.policy, rules(1.0, 1.0, 1, 1))


def _told(args: argparse.Namespace, name: str) -> bool:
    return getattr(args, name) is not None


def _check_numbers(args: argparse.Namespace) -> None:
    """Raise ValueError of a number that is out of its range."""
    for load in args.load or ():
        check_above_zero("--load", load)
    check_above_zero("--rate", args.rate)
    check_above_zero("--p99", args.p99)
    if args.deadline != inf:
        check_above_zero("--deadline", args.deadline)
    check_at_least_one("--requests", args.requests)
    for name in ("bulk", "threshold"):
        value = getattr(args, name)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"--{name} must be in 0 to 1, not {value:g}")


def chosen_rules(names: Sequence[str], named: dict[str, Rule]) -> list[tuple[str, Rule]]:
    """The rules of these names, all of them if one is `all`; raises ValueError."""
    if "all" in names:
        return list(named.items())
    for name in names:
        if name not in named:
            raise ValueError(f"no policy {name!r}; there are {', '.join(named)} and all")
    return [(name, named[name]) for name in names]


def _parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="offramp simulate",
        description=description,
        allow_abbrev=False,
        formatter_class=DefaultsFormatter,
    )
    add = parser.add_argument
    add(
        "--fixed-cost",
        type=float,
        metavar="A",
        help=f"cost of a step, however small; {FIXED_COST:g} by default",
    )
    add(
        "--row-cost",
        type=float,
        metavar="C",
        help=f"cost of each row of a step; {ROW_COST:g} by default",
    )
    add("--max-batch-rows", type=int, default=32, metavar="B", help="rows of a batch at most")
    add(
        "--max-batch-tokens",
        type=int,
        default=0,
        metavar="T",
        help="tokens of a batch at most; 0: 512 with --checkpoint, else the rows",
    )
    add(
        "--slots",
        type=int,
        default=0,
        help="requests between stages at most; 0: no bound, or two batches with --checkpoint",
    )
    add(
        "--workers",
        type=int,
        default=0,
        help="steps that run at the same time; 0: one, or a server's default with --checkpoint",
    )
    add(
        "--exit-shares",
        nargs="+",
        metavar="S",
        help=f"share of requests that leaves at each exit; {' '.join(map(str, SHARES))} by default",
    )
    add("--load", type=float, nargs="+", metavar="X", help="shares of capacity; 0.8 by default")
    add("--rate", type=float, metavar="R", help="requests a second, instead of --load")
    add("--policy", nargs="+", default=["adaptive"], metavar="NAME", help="policies, or all")
    add(
        "--requests",
        type=int,
        metavar="N",
        help=f"how many; {REQUESTS} or the whole trace by default",
    )
    add("--seed", type=int, default=1, metavar="K", help="draws arrivals, exits and lengths")
    add(
        "--arrivals", choices=("poisson", "bursty"), help="bursty is ten to one; poisson by default"
    )
    add(
        "--trace",
        type=Path,
        metavar="FILE",
        help="recorded arrival times, one a line, instead of --load, --rate and --arrivals",
    )
    add("--deadline", type=float, default=inf, metavar="TIME", help="from arrival to deadline")
    add("--fail", action="store_true", help="fail at the deadline instead of the best answer")
    add("--bulk", type=float, default=0.0, help="share of bulk requests")
    add(
        "--checkpoint",
        type=Path,
        metavar="DIR",
        help="measure costs, exits and lengths from it, on this machine",
    )
    add(
        "--data", type=Path, metavar="FILE", help="texts to measure with, as for `offramp evaluate`"
    )
    add_columns(add)
    add("--threshold", type=float, help="threshold of the texts; default: the checkpoint's")
    add("--p99", type=float, metavar="TIME", help="say how many replicas keep the p99 within this")
    add("--plot", type=Path, metavar="FILE", help="write latency against load as an image here")
    add("--json", action="store_true", help="print JSON instead of a table")
    return parser
