"""Every rule of the ablation in the real engine with the real model: the same requests, in turn.

    python bench/engine/rivals.py --checkpoint checkpoints/sst2-minilm \
        --data sst2/dev.jsonl.gz --output bench/engine/rivals.json

Each round runs every rule at saturation and then at .8 of our throughput in that round, in another
order each time. Figures are over ours in the same round: median and quartiles; those of ours once
more say what is noise.
"""

import random
import statistics
from collections.abc import Sequence
from typing import Any

from subject import measure

from offramp.cli.measured import NEVER, poisson
from offramp.cli.rehearsal import Rehearsal, Run
from offramp.scheduler.rules import Rule, rules

OURS, AGAIN = "adaptive", "adaptive again"
LOAD = 0.8
SERVED = 1200


def serve(rehearsal: Rehearsal, rule: Rule, times: Sequence[float], threshold: float) -> Run:
    """A run under a rule and its limits."""
    rows = 1 if rule.one_row else 0
    config = rehearsal.config(rule.batches_held * rehearsal.limits[1], rows)
    wanted = threshold if rule.exits else NEVER
    return rehearsal.serve(times, wanted, policy=rule.policy, config=config)


def rivals(rehearsal: Rehearsal, threshold: float, rounds: int) -> dict[str, Any]:
    """The report of all rules."""
    at_once = [0.0] * len(rehearsal.texts)
    # What a step costs, for the rules that want it: seconds of one row, and of one more.
    alone, many = (step_seconds(rehearsal, rows) for rows in (1, 16))
    row = (many - alone) / 15
    named = rules(max(alone - row, 0.0), row, rehearsal.limits[1], rehearsal.stages)
    named[AGAIN] = named[OURS]
    throughput: dict[str, list[float]] = {name: [] for name in named}
    mean: dict[str, list[float]] = {name: [] for name in named}
    p99: dict[str, list[float]] = {name: [] for name in named}
    for at in range(rounds):
        order = random.Random(at).sample(list(named), len(named))
        for name in order:
            run = serve(rehearsal, named[name], at_once, threshold)
            throughput[name].append(len(at_once) / run.seconds)
        times = poisson(LOAD * throughput[OURS][-1], SERVED, seed=at)
        for name in order:
            run = serve(rehearsal, named[name], times, threshold)
            totals = sorted(answer.total for answer in run.answers)
            mean[name].append(statistics.mean(totals))
            p99[name].append(totals[int(len(totals) * 0.99)])
    return {
        "requests_a_round": {"saturation": len(at_once), "load": SERVED},
        "ours": {
            "throughput": round(statistics.median(throughput[OURS]), 1),
            "mean": round(statistics.median(mean[OURS]), 4),
            "p99": round(statistics.median(p99[OURS]), 4),
        },
        "over_ours": {
            name: {
                "throughput": over(throughput[name], throughput[OURS]),
                "mean": over(mean[name], mean[OURS]),
                "p99": over(p99[name], p99[OURS]),
            }
            for name in named
            if name != OURS
        },
    }


def step_seconds(rehearsal: Rehearsal, rows: int) -> float:
    """Median seconds of a first stage of so many rows."""
    run = rehearsal.serve([0.0] * 10 * rows, 0.0, config=rehearsal.config(rows, rows))
    return statistics.median(step.seconds for step in run.steps)


def over(of: Sequence[float], ours: Sequence[float]) -> list[float]:
    """Lower quartile, median, upper quartile of the ratios, round by round."""
    ratios = [one / other for one, other in zip(of, ours, strict=True)]
    quarter = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return [round(value, 3) for value in quarter]


if __name__ == "__main__":
    measure(rivals, __doc__, texts=400, rounds=8)
