"""How well the simulator foresees the real engine: p50, p99 and throughput at three loads.

    python bench/engine/foreseen.py --checkpoint checkpoints/sst2-minilm \
        --data sst2/dev.jsonl.gz --output bench/engine/foreseen.json

What `offramp simulate --checkpoint` records, and runs to foresee, take turns; a run is foreseen
from the recordings just before and after it, which had other arrivals, with its own arrivals,
exits and lengths. The load is a share of the throughput at saturation in the recording before.
A ratio is foreseen over actual, its median and quartiles are over the rounds.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from subject import measure

from offramp.cli.measured import measured, poisson, record
from offramp.cli.rehearsal import Rehearsal, Run
from offramp.scheduler.experiment import Figures, Machine, run
from offramp.scheduler.policy import Adaptive
from offramp.scheduler.request import Request, Terms
from offramp.scheduler.rules import Rule
from offramp.scheduler.workload import THRESHOLD, Workload

LOADS = (0.5, 0.8, None)
RECORDED = 600
SECONDS = 5.0
AT_ONCE = 1600
DRAWS = 5
FIGURES = ("p50", "p99", "throughput")


@dataclass(frozen=True, slots=True)
class Sample:
    """A run, when its requests came, and the recordings before and after it."""

    load: float | None
    times: Sequence[float]
    run: Run
    recorded: Sequence[Run]


def foreseen(rehearsal: Rehearsal, threshold: float, rounds: int) -> dict[str, Any]:
    """Run everything, then foresee each run."""
    samples: list[Sample] = []
    before = record(rehearsal, threshold, RECORDED, seed=0)
    for at in range(rounds * len(LOADS)):
        load = LOADS[at % len(LOADS)]
        rate = (load or 0.0) * RECORDED / before[1].seconds
        seed = 1000 + at
        times = poisson(rate, int(rate * SECONDS), seed) if load else [0.0] * AT_ONCE
        actual = rehearsal.serve(times, threshold)
        after = record(rehearsal, threshold, RECORDED, seed=at + 1)
        samples.append(Sample(load, times, actual, [*before, *after]))
        before = after
    loads: dict[str, Any] = {}
    for load in LOADS:
        rows = [ratios(rehearsal, sample) for sample in samples if sample.load == load]
        loads[f"load {load}" if load else "saturation"] = {
            "requests": sum(len(sample.times) for sample in samples if sample.load == load),
            **{key: summary([row[key] for row in rows]) for key in FIGURES},
        }
    return {"foreseen_over_actual": loads}


def ratios(rehearsal: Rehearsal, sample: Sample) -> dict[str, tuple[float, float]]:
    """Foreseen and actual of each figure."""
    machine = measured(rehearsal, sample.recorded).machine
    runs = [simulated(rehearsal, machine, sample, seed) for seed in range(DRAWS)]
    totals = sorted(answer.total for answer in sample.run.answers)
    actual = {
        "p50": totals[len(totals) // 2],
        "p99": totals[int(len(totals) * 0.99)],
        "throughput": len(totals) / sample.run.seconds,
    }
    return {
        key: (statistics.median(getattr(one, key) for one in runs), value)
        for key, value in actual.items()
    }


def simulated(rehearsal: Rehearsal, machine: Machine, sample: Sample, seed: int) -> Figures:
    """The figures of the sample's requests in the simulator, for one draw of the steps."""
    terms = Terms(THRESHOLD, 0, rehearsal.stages - 1)
    texts = rehearsal.texts
    requests = [
        Request(answer.exit, len(texts[at % len(texts)]), terms, due, lambda _: None)
        for at, (due, answer) in enumerate(zip(sample.times, sample.run.answers, strict=True))
    ]
    workload = Workload(1.0, (1.0,), len(requests), seed)
    return run(Rule(Adaptive()), machine, workload, requests)


def summary(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Medians of what was foreseen, of what came, and of the first over the second."""
    ratios = [foreseen / actual for foreseen, actual in pairs]
    quarter = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return {
        "foreseen": round(statistics.median(foreseen for foreseen, _ in pairs), 4),
        "actual": round(statistics.median(actual for _, actual in pairs), 4),
        "ratio": round(statistics.median(ratios), 3),
        "lower_quartile": round(quarter[0], 3),
        "upper_quartile": round(quarter[2], 3),
    }


if __name__ == "__main__":
    measure(foreseen, __doc__, texts=800, rounds=12)
