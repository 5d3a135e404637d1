"""What the scheduler itself costs: microseconds a step and a request, by requests held.

A backend that takes no time; requests of 8 tokens, half of them interactive, a fifth with a
deadline. One request leaves for each that is submitted, so the number held stays. `per_step` and
`per_request` are the least-squares line through steps of 1 to 128 rows: a step with n requests
costs per_step + n per_request, of which each n includes submitting and delivering those that
leave. Growth is over ln n, from 1,000 to 100,000 held.
"""

import argparse
import json
import random
import statistics
import time
from math import inf, log
from pathlib import Path
from typing import Any

from offramp.cli.load.circumstances import circumstances, yardstick
from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.policy import Adaptive
from offramp.scheduler.reading import Reading
from offramp.scheduler.request import Departure, Priority, Request, Terms
from offramp.scheduler.scheduler import Scheduler

HELD = (10, 1_000, 100_000)
ROWS = (1, 8, 32, 128)
STAGES = 6
STEPS = 3000
LEAVES, STAYS = Reading(0, 1.0, (1.0,)), Reading(0, 0.0, (1.0,))


def measure(held: int, rows: int, steps: int) -> tuple[float, float]:
    """Median seconds and mean rows of a step with `held` requests and batches of `rows`."""
    chance = random.Random(1)
    config = SchedulerConfig(
        stages=STAGES,
        slots=max(held, rows),
        max_queue_requests=held + 1000,
        max_queue_tokens=10**9,
        max_batch_rows=rows,
        max_batch_tokens=8 * rows,
    )
    cost = CostModel(STAGES)
    for stage in range(STAGES):
        for size in (1, max(1, rows // 2), rows):
            cost.observe(stage, size, 8 * size, 1e-3 + 1e-5 * size)
    scheduler = Scheduler(config, Adaptive(), cost)
    terms = [
        Terms(0.5, 0, STAGES - 1, Priority.INTERACTIVE if at % 2 else Priority.BULK, deadline)
        for at in range(10)
        for deadline in [1e9 if at % 5 == 0 else inf]
    ]
    now = 0.0
    for at in range(held):
        now += 1e-4
        scheduler.submit(Request(None, 8, terms[at % 10], now, _ignore), now)
    leaves = [chance.random() < 0.4 for _ in range(4096)]
    times: list[float] = []
    counts: list[int] = []
    for step in range(steps):
        began = time.perf_counter()
        batch, departures = scheduler.next_batch(now)
        took = time.perf_counter() - began
        assert batch is not None
        assert not departures
        readings = [
            LEAVES if leaves[(step * 31 + at) % 4096] else STAYS
            for at in range(len(batch.requests))
        ]
        now += 1e-3 + 1e-5 * len(batch.requests)
        began = time.perf_counter()
        departures = scheduler.complete(batch, readings, now)
        for departure in departures:
            departure.deliver()
        fresh = [Request(None, 8, terms[step % 10], now, _ignore) for _ in departures]
        for request in fresh:
            scheduler.submit(request, now)
        took += time.perf_counter() - began
        times.append(took)
        counts.append(len(batch.requests))
    return statistics.median(times[steps // 10 :]), statistics.mean(counts[steps // 10 :])


def main() -> None:
    """Measure every number held and print or write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    results: list[dict[str, Any]] = []
    for held in HELD:
        points = [measure(held, rows, args.steps) for rows in ROWS if rows <= held]
        slope, intercept = statistics.linear_regression(
            [rows for _, rows in points], [seconds for seconds, _ in points]
        )
        figures: dict[str, Any] = {
            "held": held,
            "per_step_us": round(intercept * 1e6, 1),
            "per_request_us": round(slope * 1e6, 2),
            "steps_us": {f"{rows:.1f} rows": round(s * 1e6, 1) for s, rows in points},
        }
        results.append(figures)
        print(json.dumps(figures))
    thousand, most = results[1], results[2]
    growth = {key: round(most[key] / thousand[key], 2) for key in ("per_step_us", "per_request_us")}
    growth["allowed"] = round(log(HELD[2]) / log(HELD[1]), 2)
    print(json.dumps(growth))
    if args.output:
        record = {
            **circumstances(),
            "yardstick_gflops": yardstick(),
            "results": results,
            "growth_1000_to_100000": growth,
        }
        args.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _ignore(departure: Departure) -> None:
    del departure


if __name__ == "__main__":
    main()
