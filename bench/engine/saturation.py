"""What exits gain when all texts come at once, whatever share of them leaves early.

    python bench/engine/saturation.py --checkpoint checkpoints/sst2-minilm \
        --data sst2/dev.jsonl.gz --output bench/engine/saturation.json

Variants take turns, so that the machine's drift meets all alike: thresholds from one that nobody
reaches to one that everybody does, one step in flight more than there are workers, no exits twice
(the second over the first says what is noise), and the plain loop of full batches through every
stage. `over_no_exits` is throughput over that without exits in the same round, `of_layer_speedup`
this over L / E.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from subject import measure

from offramp.cli.measured import NEVER
from offramp.cli.rehearsal import Rehearsal
from offramp.scheduler.backend import Batch
from offramp.scheduler.request import Departure, Request, Terms

THRESHOLDS = (1.0, 0.999, 0.99, 0.95, 0.9, 0.8, 0.6, 0.0)


def plain(rehearsal: Rehearsal) -> float:
    """Seconds of the plain loop: the largest batches that fit, through every stage.

    As many loops run at the same time as the engine has workers, each in slots of its own.
    """
    slots, max_rows, max_tokens = rehearsal.limits
    workers = min(rehearsal.workers, slots // max_rows)
    groups: list[list[Request]] = [[]]
    for text in rehearsal.texts:
        group = groups[-1]
        if len(group) == max_rows or sum(one.tokens for one in group) + len(text) > max_tokens:
            group = []
            groups.append(group)
        terms = Terms(NEVER, 0, 0)
        slot = (len(groups) - 1) % workers * max_rows + len(group)
        group.append(Request(text, len(text), terms, 0.0, _ignore, slot=slot))

    def loop(worker: int) -> None:
        for group in groups[worker::workers]:
            for stage in range(rehearsal.stages):
                rehearsal.backend.run(Batch(stage, tuple(group), 0.0))

    began = time.perf_counter()
    for done in [rehearsal.device.submit(loop, worker) for worker in range(workers)]:
        done.result()
    return time.perf_counter() - began


def saturation(rehearsal: Rehearsal, threshold: float, rounds: int) -> dict[str, Any]:
    """The report of all variants."""
    thresholds = sorted({*THRESHOLDS, threshold}, reverse=True)
    at_once = [0.0] * len(rehearsal.texts)
    depth = rehearsal.checkpoint.config.exit_layers
    exits: dict[float, list[int]] = {}

    def engine(wanted: float, steps: int = 1) -> float:
        run = rehearsal.serve(at_once, wanted, steps_in_flight=steps)
        exits[wanted] = [answer.exit for answer in run.answers]
        return run.seconds

    variants: dict[str, Callable[[], float]] = {
        "no exits": lambda: engine(NEVER),
        "no exits again": lambda: engine(NEVER),
        "plain loop": lambda: plain(rehearsal),
        "one more in flight": lambda: engine(threshold, rehearsal.workers + 1),
        **{f"threshold {one:g}": partial(engine, one) for one in thresholds},
    }
    for run in variants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for at in range(rounds):
        order = list(variants)[:: 1 if at % 2 else -1]
        for name in order:
            seconds[name].append(variants[name]())
    report: dict[str, Any] = {}
    for name in variants:
        if name == "no exits":
            continue
        report[name] = spread(seconds["no exits"], seconds[name])
    for one in thresholds:
        left = exits[one]
        speedup = depth[-1] / statistics.mean(depth[at] for at in left)
        found = report[f"threshold {one:g}"]
        found["leave_early"] = round(statistics.mean(at < len(depth) - 1 for at in left), 3)
        found["layer_speedup"] = round(speedup, 3)
        found["of_layer_speedup"] = round(found["median"] / speedup, 3)
    usual = f"threshold {threshold:g}"
    return {
        "over_no_exits": report,
        "one_more_in_flight_over_none": spread(seconds[usual], seconds["one more in flight"]),
        "no_exits_over_plain_loop": spread(seconds["plain loop"], seconds["no exits"]),
        "median_seconds": {
            name: round(statistics.median(times), 3) for name, times in seconds.items()
        },
    }


def spread(base: Sequence[float], of: Sequence[float]) -> dict[str, float]:
    """Throughput of one over that of the base, round by round: median, quartiles, extremes."""
    ratios = sorted(one / other for one, other in zip(base, of, strict=True))
    quarter = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    names = ("least", "lower_quartile", "median", "upper_quartile", "most")
    values = (ratios[0], quarter[0], statistics.median(ratios), quarter[2], ratios[-1])
    return {name: round(value, 3) for name, value in zip(names, values, strict=True)}


def _ignore(departure: Departure) -> None:
    del departure


if __name__ == "__main__":
    measure(saturation, __doc__, texts=400, rounds=12)
