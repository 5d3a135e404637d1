"""Never worse than no exits: throughput at saturation over exit rates, batch sizes, cost shapes.

All requests are there from the start. The same share of those who reach an exit leaves at each,
from nobody to everybody. Throughput is over that of serving without exits at the same limits,
whose every step is full; `of_ideal` is over 1 / E (a / B + c). Slots: twice the rows of a batch, as
the server has by default, and no bound.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from offramp.scheduler.experiment import Machine, line_cost, run
from offramp.scheduler.rules import rules
from offramp.scheduler.workload import Workload

SHAPES = (64.0, 8.0, 0.5)
ROWS = (1, 8, 32, 128)
RATES = (0.0, 0.1, 0.3, 0.5, 0.8, 1.0)
STAGES = 6
TARGET = (0.465, 0.094, 0.113, 0.115, 0.032, 0.181)


def shares(rate: float) -> list[float]:
    """Share of all requests that leaves at each exit if `rate` of those who reach it does."""
    leaving = [rate * (1 - rate) ** stage for stage in range(STAGES - 1)]
    return [*leaving, 1 - sum(leaving)]


def saturation(
    fixed_cost: float, rows: int, slots: int, of: Sequence[float], name: str, requests: int
) -> float:
    """Answers per unit of time with a queue that is never short."""
    rule = rules(fixed_cost, 1.0, rows, STAGES)[name]
    machine = Machine(line_cost(fixed_cost, 1.0), STAGES, rows, rows, slots)
    workload = Workload(1e9, of, requests, exits=rule.exits)
    return run(rule, machine, workload).throughput


def cell(case: tuple[float, int, int]) -> list[dict[str, Any]]:
    """All exit rates of one shape, batch size and number of slots."""
    fixed_cost, rows, slots = case
    requests = max(1500, 60 * rows)
    without = saturation(fixed_cost, rows, slots, shares(0.5), "no-exits", requests)
    result: list[dict[str, Any]] = []
    for rate in RATES:
        of = shares(rate)
        ours = saturation(fixed_cost, rows, slots, of, "adaptive", requests)
        stages = sum(sum(of[stage:]) for stage in range(STAGES))
        result.append(
            {
                "fixed_cost": fixed_cost,
                "max_rows": rows,
                "slots": slots,
                "exit_rate": rate,
                "over_no_exits": round(ours / without, 4),
                "of_ideal": round(ours * stages * (fixed_cost / rows + 1), 4),
            }
        )
    return result


def _cases() -> Iterator[tuple[float, int, int]]:
    for fixed_cost in SHAPES:
        for rows in ROWS:
            yield fixed_cost, rows, 2 * rows
            yield fixed_cost, rows, 0


def main() -> None:
    """Sweep, print the worst and write all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with ProcessPoolExecutor(args.workers) as pool:
        rows = [row for part in pool.map(cell, _cases()) for row in part]
    stages = sum(sum(TARGET[stage:]) for stage in range(STAGES))
    share = saturation(64.0, 128, 0, TARGET, "adaptive", 20_000) * stages * 1.5
    report = {
        "worst_over_no_exits": min(row["over_no_exits"] for row in rows),
        "saturation_of_ideal_64_128": round(share, 4),
        "rows": rows,
    }
    print(json.dumps({key: value for key, value in report.items() if key != "rows"}))
    if args.output:
        args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
