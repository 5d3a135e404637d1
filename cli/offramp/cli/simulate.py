"""`offramp simulate`: the serving scheduler in virtual time, for a cost and a load.

Time has the unit of the costs: give seconds and read seconds. With --checkpoint an engine serves
the texts of --data here for some seconds first; what its steps took, slow spells of the machine
included, where texts left and how long they are is then simulated. A load is a share of the most
that full, refilled batches can carry; --rate says requests a second instead.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from math import inf, isfinite
from pathlib import Path

from offramp.cli.columns import add_columns, columns_of
from offramp.cli.outputs import IMAGES, check_file
from offramp.cli.replicas import MOST_REPLICAS, fewest_replicas
from offramp.cli.simulated import Row, plot, table
from offramp.cli.table import console
from offramp.scheduler.experiment import Machine, line_cost, run
from offramp.scheduler.request import DeadlineAction
from offramp.scheduler.rules import Rule, rules
from offramp.scheduler.workload import Workload

SHARES = (0.465, 0.094, 0.113, 0.115, 0.032, 0.181)
REQUESTS = 20_000
LOADS = (0.8,)
PLOT_LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)


def main(arguments: Sequence[str]) -> int:
    """Simulate and report; returns the exit status."""
    args = _parser().parse_args(arguments)
    try:
        _check(args)
        _check_numbers(args)
        machine, workload, named = _setting(args)
        rates = _rates(args, machine, workload)
        chosen = _chosen(args.policy, named)
        if args.p99 is not None:
            return _replicas(args, machine, replace(workload, rate=rates[0][1]), chosen[0][1])
        own_loads = args.load or args.rate is not None
        loads = (
            _rates(args, machine, workload, PLOT_LOADS) if args.plot and not own_loads else rates
        )
        rows: list[Row] = [
            {"policy": name, "load": load, "rate": rate, **asdict(figures)}
            for name, rule in chosen
            for load, rate in loads
            for figures in [run(rule, machine, replace(workload, rate=rate, exits=rule.exits))]
        ]
    except (ValueError, OSError) as error:
        print(f"offramp simulate: {error}", file=sys.stderr)
        return 1
    if args.plot:
        plot(rows, args.plot)
    if args.json:
        print(json.dumps(rows[0] if len(rows) == 1 else {"runs": rows}, indent=1))
    else:
        console().print(table(rows))
    return 0


def _setting(args: argparse.Namespace) -> tuple[Machine, Workload, dict[str, Rule]]:
    """The machine, the workload but for its rate, and the rules by name."""
    shares = _numbers(args.exit_shares)
    samples: tuple[tuple[int, int], ...] = ()
    if args.checkpoint:
        if not args.data:
            raise ValueError("--checkpoint needs texts to measure with; name them with --data")
        from offramp.cli.measured import measure  # noqa: PLC0415 - torch, only where it is needed

        print("measuring on this machine, for up to a minute", file=sys.stderr, flush=True)
        measured = measure(
            args.checkpoint,
            args.data,
            columns_of(args),
            args.threshold,
            slots=args.slots or 2 * args.max_rows,
            max_rows=args.max_rows,
            max_tokens=args.max_tokens or 512,
            workers=args.workers,
        )
        shares, samples, machine = measured.shares, measured.samples, measured.machine
        fixed = machine.cost(0, 1, round(measured.mean_tokens))
        row = machine.cost(0, 8, round(8 * measured.mean_tokens)) / 8
    else:
        fixed, row = args.fixed_cost, args.row_cost
        if not (0 <= fixed < inf and 0 < row < inf):
            raise ValueError("--fixed-cost must be at least 0 and --row-cost above 0, both finite")
        tokens = args.max_tokens or args.max_rows
        machine = Machine(
            line_cost(fixed, row),
            len(shares),
            args.max_rows,
            tokens,
            args.slots,
            args.workers or 1,
        )
    trace = _trace(args.trace)[: args.requests] if args.trace else ()
    workload = Workload(
        rate=1.0,
        shares=shares,
        requests=len(trace) or args.requests or REQUESTS,
        seed=args.seed,
        arrivals=args.arrivals or "poisson",
        trace=trace,
        deadline=args.deadline,
        deadline_action=DeadlineAction.FAIL if args.fail else DeadlineAction.BEST_ANSWER,
        bulk=args.bulk,
        samples=samples,
    )
    return machine, workload, rules(fixed, row, args.max_rows, machine.stages)


def _check(args: argparse.Namespace) -> None:
    """Raise ValueError where options exclude each other."""
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
    if not args.checkpoint and (args.data or args.threshold is not None):
        raise ValueError(
            "--data and --threshold are of a measured checkpoint; name it, --checkpoint"
        )
    check_file(args.plot, IMAGES)
    _chosen(args.policy, rules(1.0, 1.0, 1, 1))


def _check_numbers(args: argparse.Namespace) -> None:
    """Raise ValueError of a number that is out of its range."""
    positive = {"load": args.load or (), "rate": (args.rate,), "p99": (args.p99,)}
    for name, values in (positive | {"deadline": (args.deadline,)}).items():
        for value in values:
            if value is not None and not (value > 0 and (isfinite(value) or name == "deadline")):
                raise ValueError(f"--{name} must be a number above 0, not {value:g}")
    for name in ("bulk", "threshold"):
        value = getattr(args, name)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"--{name} must be in 0 to 1, not {value:g}")
    if args.requests is not None and args.requests < 1:
        raise ValueError(f"--requests must be at least 1, not {args.requests}")


def _rates(
    args: argparse.Namespace,
    machine: Machine,
    workload: Workload,
    loads: Sequence[float] | None = None,
) -> list[tuple[float, float]]:
    """Pairs of load and rate to simulate."""
    tokens = [length for _, length in workload.samples] or [1]
    capacity = machine.capacity(workload.shares, sum(tokens) / len(tokens))
    if workload.trace:
        times = workload.trace
        rate = (len(times) - 1) / (times[-1] - times[0])
        return [(rate / capacity, rate)]
    if args.rate is not None and not loads:
        return [(args.rate / capacity, args.rate)]
    return [(load, load * capacity) for load in loads or args.load or LOADS]


def _chosen(names: Sequence[str], named: dict[str, Rule]) -> list[tuple[str, Rule]]:
    if "all" in names:
        return list(named.items())
    for name in names:
        if name not in named:
            raise ValueError(f"no policy {name!r}; there are {', '.join(named)} and all")
    return [(name, named[name]) for name in names]


def _replicas(args: argparse.Namespace, machine: Machine, workload: Workload, rule: Rule) -> int:
    """Say how many replicas keep the p99 within the target; returns the exit status."""
    found = fewest_replicas(rule, machine, workload, args.p99)
    if found is None:
        print(
            f"offramp simulate: not all are answered with a p99 of {args.p99:g} even by"
            f" {MOST_REPLICAS} replicas; one request alone takes longer, or than its deadline",
            file=sys.stderr,
        )
        return 1
    replicas, figures = found
    if args.json:
        told = {"replicas": replicas, "rate": workload.rate, "target_p99": args.p99}
        print(json.dumps(told | asdict(figures), indent=1))
    else:
        print(
            f"{replicas} replica{'s' if replicas > 1 else ''} for {workload.rate:g} requests a"
            f" second: p99 {figures.p99:.4g} within {args.p99:g}, p50 {figures.p50:.4g}"
        )
    return 0


def _numbers(words: Sequence[str]) -> list[float]:
    return [float(word) for word in " ".join(words).replace(",", " ").split()]


def _trace(path: Path) -> tuple[float, ...]:
    """Arrival times, one a line, from whatever zero."""
    try:
        times = sorted(float(line) for line in path.read_text(encoding="utf-8").split())
    except ValueError as error:
        raise ValueError(f"{path} must hold arrival times, one a line: {error}") from error
    if not all(map(isfinite, times)):
        raise ValueError(f"{path} must hold finite arrival times")
    if len(times) < 2 or times[-1] == times[0]:
        raise ValueError(f"{path} must hold at least two different arrival times, one a line")
    return tuple(time - times[0] for time in times)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="offramp simulate",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--fixed-cost", type=float, default=64.0, metavar="A", help="cost of a step, however small")
    add("--row-cost", type=float, default=1.0, metavar="C", help="cost of each row of a step")
    add("--max-rows", type=int, default=32, metavar="B", help="rows of a batch at most")
    add("--max-tokens", type=int, default=0, help="tokens of a batch at most; 0: 512, or the rows")
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
        default=[" ".join(map(str, SHARES))],
        metavar="S",
        help="share of requests that leaves at each exit",
    )
    add("--load", type=float, nargs="+", metavar="X", help="shares of capacity; 0.8 if not told")
    add("--rate", type=float, help="requests a second, instead of --load")
    add("--policy", nargs="+", default=["adaptive"], metavar="NAME", help="policies, or all")
    add("--requests", type=int, metavar="N", help=f"{REQUESTS} or the whole trace if not told")
    add("--seed", type=int, default=1, metavar="K")
    add("--arrivals", choices=("poisson", "bursty"), help="ten to one; poisson if not told")
    add("--trace", type=Path, help="recorded arrival times, one a line, instead of the three")
    add("--deadline", type=float, default=inf, help="time from arrival to deadline")
    add("--fail", action="store_true", help="fail at the deadline instead of the best answer")
    add("--bulk", type=float, default=0.0, help="share of bulk requests")
    add("--checkpoint", type=Path, help="measure costs, exits and lengths from it, on this machine")
    add("--data", type=Path, help="texts to measure with, as for `offramp evaluate`")
    add_columns(add)
    add("--threshold", type=float, help="threshold of the texts; default: the checkpoint's")
    add("--p99", type=float, help="answer how many replicas keep the p99 within this")
    add("--plot", type=Path, help="write latency against load as an image here")
    add("--json", action="store_true", help="print JSON instead of a table")
    return parser
