"""How many steps a request may stay: what the bound costs and saves under a lasting backlog.

    python bench/scheduler/stays.py            writes bench/scheduler/stays.json

More than two batches are there from the start and as much comes as can be answered, so that the
backlog lasts; mean of two seeds, over no bound but that on a line's turn.
"""

import json
import random
import statistics
from pathlib import Path

from offramp.scheduler import lines
from offramp.scheduler.experiment import Machine, line_cost, run
from offramp.scheduler.rules import rules
from offramp.scheduler.workload import Workload

SHAPES = ((64.0, 128), (8.0, 64), (0.5, 32))
SHARES = (0.24, 0.36, 0.22, 0.12, 0.04, 0.02)
STAYS = (16, 24, 28, 32, 1_000_000)
SEEDS = (1, 2)
REQUESTS, LOAD, EXTRA = 8000, 0.97, 32
FIGURES = ("mean", "p99", "max", "throughput")


def figures(fixed_cost: float, rows: int, stay: int) -> dict[str, float]:
    """Means over the seeds under one bound."""
    stages = len(SHARES)
    layers = sum(sum(SHARES[stage:]) for stage in range(stages))
    rule = rules(fixed_cost, 1.0, rows, stages)["adaptive"]
    machine = Machine(line_cost(fixed_cost, 1.0), stages, rows, rows)
    lines.LONGEST_STAY = stay
    runs = []
    for seed in SEEDS:
        draw, now = random.Random(seed), 0.0
        trace = [now] * (2 * rows + EXTRA)
        while len(trace) < REQUESTS:
            now += draw.expovariate(LOAD / (layers * (fixed_cost / rows + 1)))
            trace.append(now)
        runs.append(run(rule, machine, Workload(1.0, SHARES, REQUESTS, seed, trace=trace)))
    return {name: statistics.fmean(getattr(one, name) for one in runs) for name in FIGURES}


def main() -> None:
    """Simulate and write."""
    found = []
    for fixed_cost, rows in SHAPES:
        of = {stay: figures(fixed_cost, rows, stay) for stay in STAYS}
        for stay, own in of.items():
            over = {name: round(own[name] / of[STAYS[-1]][name], 3) for name in FIGURES}
            found.append({"fixed_cost": fixed_cost, "max_rows": rows, "stay": stay, **over})
            print(found[-1], flush=True)
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
