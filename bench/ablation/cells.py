"""Every rule in every cell of cost shape and load, side by side, on the product's own scheduler.

    python bench/ablation/cells.py            writes bench/ablation/results.json and its plots
    python bench/ablation/cells.py --check    reads results.json and tells how far ours is

Time is in units of the cost of a row. The load is a share of E (a / B + c), the most that a machine
refilled at full batches can carry. Each figure is the mean of three seeds, the same for all rules.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from offramp.scheduler.experiment import Figures, Machine, line_cost, run
from offramp.scheduler.rules import rules
from offramp.scheduler.workload import Workload

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
SHARES = (0.465, 0.094, 0.113, 0.115, 0.032, 0.181)
SHAPES = ((64.0, 128), (8.0, 64), (0.5, 32))
LOADS = (0.2, 0.5, 0.8, 0.9, 0.95)
SEEDS = (1, 2, 3)
REQUESTS = 20_000
OURS = "adaptive"
NAMES = tuple(rules(1.0, 1.0, 1, len(SHARES)))

Cell = tuple[float, int, float, str]


def mean_stages(shares: Sequence[float]) -> float:
    """Mean number of stages that a request runs, E."""
    return sum(sum(shares[stage:]) for stage in range(len(shares)))


def simulate(cell: Cell) -> dict[str, float | str]:
    """Figures of one rule in one cell: the mean of the seeds."""
    fixed_cost, max_rows, load, name = cell
    stages = len(SHARES)
    rule = rules(fixed_cost, 1.0, max_rows, stages)[name]
    rate = load / (mean_stages(SHARES) * (fixed_cost / max_rows + 1))
    machine = Machine(line_cost(fixed_cost, 1.0), stages, max_rows, max_rows)
    runs = [
        run(rule, machine, Workload(rate, SHARES, REQUESTS, seed, exits=rule.exits))
        for seed in SEEDS
    ]
    return {
        "fixed_cost": fixed_cost,
        "max_rows": max_rows,
        "load": load,
        "rule": name,
        **mean_figures(runs),
    }


def mean_figures(runs: Sequence[Figures]) -> dict[str, float]:
    """Each figure's mean over runs."""
    return {
        key: round(statistics.mean(getattr(figures, key) for figures in runs), 4)
        for key in ("p50", "mean", "p99", "max", "fill", "throughput")
    }


def check(rows: Sequence[dict[str, float | str]]) -> dict[str, object]:
    """How far ours is from the best of any rule, cell by cell and on the geometric mean."""
    cells: list[dict[str, object]] = []
    products: dict[str, list[float]] = {name: [] for name in NAMES}
    for fixed_cost, max_rows in SHAPES:
        for load in LOADS:
            here = {
                str(row["rule"]): row
                for row in rows
                if row["fixed_cost"] == fixed_cost and row["load"] == load
            }
            best = {key: min(float(row[key]) for row in here.values()) for key in ("mean", "p99")}
            ratios = {
                name: {key: float(row[key]) / best[key] for key in best}
                for name, row in here.items()
            }
            for name, ratio in ratios.items():
                products[name].append(ratio["mean"] * ratio["p99"])
            cells.append(
                {
                    "fixed_cost": fixed_cost,
                    "max_rows": max_rows,
                    "load": load,
                    "mean_over_best": round(ratios[OURS]["mean"], 3),
                    "p99_over_best": round(ratios[OURS]["p99"], 3),
                }
            )
    geometric = {
        name: round(math.exp(statistics.mean(map(math.log, values))), 3)
        for name, values in products.items()
        if values
    }
    return {"cells": cells, "geometric_mean_of_mean_x_p99_over_best": geometric}


def main() -> int:
    """Run or check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only read results.json")
    parser.add_argument("--rules", nargs="*", default=NAMES, help="run these, keep the others")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    output: Path = args.output
    rows = json.loads(output.read_text(encoding="utf-8"))["rows"] if output.exists() else []
    if not args.check:
        cells = [
            (fixed_cost, max_rows, load, name)
            for fixed_cost, max_rows in SHAPES
            for load in LOADS
            for name in args.rules
        ]
        with ProcessPoolExecutor(args.workers) as pool:
            fresh = list(pool.map(simulate, cells))
        rows = [row for row in rows if row["rule"] not in args.rules] + fresh
        result = {"requests": REQUESTS, "seeds": SEEDS, "shares": SHARES, "rows": rows}
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(check(rows), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
