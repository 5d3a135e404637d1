"""How far ours is from the optimum on instances small enough to be solved exactly.

Three stages, exit shares .5 .25 .25, batches of at most 8. The optimum comes from `optimum.py`; its
actions and ours are also simulated on the same arrivals and exits, so that chance cancels from
their ratio: `over_optimum` is the ratio of the two simulated means.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from optimum import Instance, least_mean_latency

from offramp.scheduler.experiment import Machine, line_cost, run
from offramp.scheduler.policy import Ready
from offramp.scheduler.rules import Rule, rules
from offramp.scheduler.workload import Workload

SHARES = (0.5, 0.25, 0.25)
MAX_ROWS = 8
FIXED_COSTS = (0.5, 4.0, 16.0)
LOADS = (0.5, 0.8, 0.9)
STAGES_RUN = 1.75
REQUESTS = 15_000
SEEDS = (1, 2, 3)
COMPARED = ("adaptive", "fullest", "square-root", "remaining-work")
BOUNDS = {0.5: (48, 28, 28), 0.8: (64, 32, 32), 0.9: (110, 48, 48)}


class Solved:
    """The optimal actions; beyond the bounds of the solution, where it is cut off, the fullest."""

    def __init__(self, actions: npt.NDArray[np.int64]) -> None:
        self._stages = actions // (MAX_ROWS + 1)
        self._bounds = [size - 1 - MAX_ROWS for size in actions.shape]

    def choose(self, ready: Sequence[Ready], most_rows: int) -> int:
        """The stage that the solution runs in this state."""
        del most_rows
        state = [0, 0, 0]
        for stage in ready:
            state[stage.stage] = stage.waiting
        if any(waiting > bound for waiting, bound in zip(state, self._bounds, strict=True)):
            return max(ready, key=lambda stage: (stage.rows, stage.stage)).stage
        return int(self._stages[tuple(state)])


def cell(case: tuple[float, float]) -> dict[str, Any]:
    """The optimum of one instance, and what each rule makes of it."""
    fixed_cost, load = case
    rate = load / (STAGES_RUN * (fixed_cost / MAX_ROWS + 1))
    instance = Instance(SHARES, fixed_cost, 1.0, MAX_ROWS, rate, BOUNDS[load])
    optimum, actions = least_mean_latency(instance, tolerance=1e-3)
    machine = Machine(line_cost(fixed_cost, 1.0), 3, MAX_ROWS, MAX_ROWS)

    def mean(rule: Rule) -> float:
        return statistics.mean(
            run(rule, machine, Workload(rate, SHARES, REQUESTS, seed)).mean for seed in SEEDS
        )

    solved = mean(Rule(Solved(actions)))
    named = rules(fixed_cost, 1.0, MAX_ROWS, 3)
    return {
        "fixed_cost": fixed_cost,
        "load": load,
        "optimum": round(optimum, 3),
        "optimum_simulated": round(solved, 3),
        "over_optimum": {name: round(mean(named[name]) / solved, 4) for name in COMPARED},
    }


def main() -> None:
    """Solve and simulate every instance; print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    cases = [(fixed_cost, load) for fixed_cost in FIXED_COSTS for load in LOADS]
    with ProcessPoolExecutor(args.workers) as pool:
        rows = list(pool.map(cell, cases))
    for row in rows:
        print(json.dumps(row))
    if args.output:
        args.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
