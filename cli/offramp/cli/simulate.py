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
from math import inf
from pathlib import Path

from offramp.cli.columns import columns_of
from offramp.cli.load.arrivals import read_trace
from offramp.cli.replicas import MOST_REPLICAS, fewest_replicas
from offramp.cli.simulate_options import (
    FIXED_COST,
    REQUESTS,
    ROW_COST,
    SHARES,
    check,
    chosen_rules,
    parse,
)
from offramp.cli.simulated import Row, plot, table
from offramp.cli.table import console
from offramp.scheduler.experiment import Machine, line_cost, run
from offramp.scheduler.request import DeadlineAction
from offramp.scheduler.rules import Rule, rules
from offramp.scheduler.workload import Workload

LOADS = (0.8,)
PLOT_LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)


def main(arguments: Sequence[str]) -> int:
    """Simulate and report; returns the exit status."""
    args = parse(arguments, __doc__)
    try:
        check(args)
        machine, workload, named = _setting(args)
        rates = _rates(args, machine, workload)
        chosen = chosen_rules(args.policy, named)
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
    failed = False
    if args.plot:
        try:
            plot(rows, args.plot)
        except ValueError as error:
            print(f"offramp simulate: {error}", file=sys.stderr)
            failed = True
    if args.json:
        print(json.dumps(rows[0] if len(rows) == 1 else {"runs": rows}, indent=1))
    else:
        console().print(table(rows))
    return int(failed)


def _setting(args: argparse.Namespace) -> tuple[Machine, Workload, dict[str, Rule]]:
    """The machine, the workload but for its rate, and the rules by name."""
    shares = list(SHARES) if args.exit_shares is None else _numbers(args.exit_shares)
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
            slots=args.slots or 2 * args.max_batch_rows,
            max_rows=args.max_batch_rows,
            max_tokens=args.max_batch_tokens or 512,
            workers=args.workers,
        )
        shares, samples, machine = measured.shares, measured.samples, measured.machine
        fixed = machine.cost(0, 1, round(measured.mean_tokens))
        row = machine.cost(0, 8, round(8 * measured.mean_tokens)) / 8
    else:
        fixed = FIXED_COST if args.fixed_cost is None else args.fixed_cost
        row = ROW_COST if args.row_cost is None else args.row_cost
        if not (0 <= fixed < inf and 0 < row < inf):
            raise ValueError("--fixed-cost must be at least 0 and --row-cost above 0, both finite")
        tokens = args.max_batch_tokens or args.max_batch_rows
        machine = Machine(
            line_cost(fixed, row),
            len(shares),
            args.max_batch_rows,
            tokens,
            args.slots,
            args.workers or 1,
        )
    trace = _trace(args.trace, args.requests) if args.trace else ()
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
    return machine, workload, rules(fixed, row, args.max_batch_rows, machine.stages)


def _rates(
    args: argparse.Namespace,
    machine: Machine,
    workload: Workload,
    loads: Sequence[float] | None = None,
) -> list[tuple[float, float]]:
    """Pairs of load and rate to simulate."""
    capacity = machine.capacity(workload.shares, workload.mean_tokens)
    if workload.trace:
        times = workload.trace
        rate = (len(times) - 1) / (times[-1] - times[0])
        return [(rate / capacity, rate)]
    if args.rate is not None and not loads:
        return [(args.rate / capacity, args.rate)]
    return [(load, load * capacity) for load in loads or args.load or LOADS]


def _replicas(args: argparse.Namespace, machine: Machine, workload: Workload, rule: Rule) -> int:
    """Say how many replicas keep the p99 within the target; returns the exit status."""
    found = fewest_replicas(rule, machine, workload, args.p99)
    if found is None:
        print(
            f"offramp simulate: not all are answered with a p99 of {args.p99:g} even by"
            f" {MOST_REPLICAS} replicas; a single request alone takes longer than that, or than"
            " its deadline",
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


def _trace(path: Path, most: int | None) -> tuple[float, ...]:
    """The first arrival times of a file, counted from the first."""
    times = read_trace(path)[:most]
    if len(times) < 2 or not times[-1]:
        raise ValueError(f"{path} must hold at least two different arrival times, one a line")
    return tuple(times)
