"""How well the simulator foresees the real engine: p50, p99 and throughput at three loads.

    python bench/engine/foreseen.py --checkpoint checkpoints/sst2-minilm \
        --data sst2/dev.jsonl.gz --output bench/engine/foreseen.json

A round is a run at each load, as a share of the throughput at saturation that was recorded just
before, and each run is foreseen from the recordings before and after its round, which had other
arrivals, with its own arrivals, exits and lengths. `offramp simulate --checkpoint` records and
foresees the same way. A ratio is foreseen over actual; its median and quartiles are over the
rounds.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from subject import measure

from offramp.cli.measured import measured, poisson, record
from offramp.cli.rehearsal import Rehearsal, Run
from offramp.scheduler.experiment import Machine, run_requests
from offramp.scheduler.policy import Adaptive
from offramp.scheduler.request import Answer, Request, Terms
from offramp.scheduler.rules import Rule
from offramp.scheduler.workload import THRESHOLD

LOADS = (0.5, 0.8, None)
RECORDED = 600
SECONDS = 8.0
AT_ONCE = 1600
DRAWS = 3


@dataclass(frozen=True, slots=True)
class Served:
    """Latencies of requests, in seconds, and the seconds in which all were answered."""

    totals: Sequence[float]
    seconds: float


@dataclass(frozen=True, slots=True)
class Pair:
    """What was foreseen, once for each draw of the steps, and what came."""

    foreseen: Sequence[Served]
    actual: Served


def foreseen(rehearsal: Rehearsal, threshold: float, rounds: int) -> dict[str, Any]:
    """Run everything, foreseeing each round when the recordings on both its sides are there."""
    pairs: dict[float | None, list[Pair]] = {load: [] for load in LOADS}
    before = record(rehearsal, threshold, RECORDED, seed=0)
    for at in range(rounds):
        runs: list[tuple[float | None, Sequence[float], Run]] = []
        for number, load in enumerate(LOADS):
            rate = (load or 0.0) * RECORDED / before[1].seconds
            seed = 1000 + at * len(LOADS) + number
            times = poisson(rate, int(rate * SECONDS), seed) if load else [0.0] * AT_ONCE
            runs.append((load, times, rehearsal.serve(times, threshold)))
        after = record(rehearsal, threshold, RECORDED, seed=at + 1)
        machine = measured(rehearsal, [*before, *after]).machine
        for load, arrivals, run in runs:
            actual = Served([answer.total for answer in run.answers], run.seconds)
            draws = [simulated(rehearsal, machine, arrivals, run, seed) for seed in range(DRAWS)]
            pairs[load].append(Pair(draws, actual))
        before = after
    loads = {f"load {load}" if load else "saturation": pairs[load] for load in LOADS}
    return {"foreseen_over_actual": {name: report(found) for name, found in loads.items()}}


def simulated(
    rehearsal: Rehearsal, machine: Machine, times: Sequence[float], actual: Run, seed: int
) -> Served:
    """The run's own requests in the simulator, for one draw of the steps."""
    terms = Terms(THRESHOLD, 0, rehearsal.stages - 1)
    texts = rehearsal.texts
    requests = [
        Request(answer.exit, len(texts[at % len(texts)]), terms, due, lambda _: None)
        for at, (due, answer) in enumerate(zip(times, actual.answers, strict=True))
    ]
    trace = run_requests(Rule(Adaptive()), machine, requests, seed)
    totals = [d.outcome.total for d in trace.departures if isinstance(d.outcome, Answer)]
    return Served(totals, trace.finished)


def report(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Medians of each figure, foreseen, actual and one over the other."""
    actual = [figures(pair.actual) for pair in pairs]
    draws = [[figures(served) for served in pair.foreseen] for pair in pairs]
    found: dict[str, Any] = {"requests": sum(len(pair.actual.totals) for pair in pairs)}
    for key in actual[0]:
        promised = [statistics.median(one[key] for one in drawn) for drawn in draws]
        came = [one[key] for one in actual]
        ratios = [one / other for one, other in zip(promised, came, strict=True)]
        quarter = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        found[key] = {
            "foreseen": round(statistics.median(promised), 4),
            "actual": round(statistics.median(came), 4),
            "ratio": round(statistics.median(ratios), 3),
            "lower_quartile": round(quarter[0], 3),
            "upper_quartile": round(quarter[2], 3),
        }
    return found


def figures(served: Served) -> dict[str, float]:
    """Seconds, and requests a second."""
    totals = sorted(served.totals)
    return {
        "p50": totals[len(totals) // 2],
        "p99": totals[int(len(totals) * 0.99)],
        "throughput": len(totals) / served.seconds,
    }


if __name__ == "__main__":
    measure(foreseen, __doc__, texts=800, rounds=12)
