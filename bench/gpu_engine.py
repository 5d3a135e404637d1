"""How many requests scheduler and engine put through a device, and how long one takes alone."""

import asyncio
import random
import statistics
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import inf
from typing import Any, TypeVar

from gpu_subjects import Limits

from offramp.model.tokenizer import Tokens
from offramp.scheduler.backend import Backend, Batch
from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.engine import Engine
from offramp.scheduler.observer import NullObserver
from offramp.scheduler.policy import Adaptive
from offramp.scheduler.request import Answer, Terms
from offramp.scheduler.scheduler import Scheduler
from offramp.server.device import STEPS_IN_FLIGHT

EXIT_SHARES = (0.465, 0.094, 0.113, 0.115, 0.032, 0.181)
"""Share of requests that left at each of six exits, recorded of a trained SST-2 checkpoint."""

ROUNDS = 3
"""Full depth and early exits, in turn; medians count."""

HELD = 3
"""Requests held at a time while throughput is measured, in full slot tables."""

ALONE = 100
"""Requests measured one at a time."""

Rounds = list[tuple[dict[str, float], dict[str, float]]]
"""At full depth and with early exits."""


Work = Sequence[tuple[Tokens, Terms]]
"""What is asked, and on what terms."""


Result = TypeVar("Result")


def new_loop() -> asyncio.AbstractEventLoop:
    """As the server's, where uvloop is installed; else asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - a bare machine need not have it
    except ModuleNotFoundError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run_on_loop(main: Coroutine[Any, Any, Result]) -> Result:
    """Run it on a loop of its own."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


def at_full_depth(tokens: Sequence[Tokens], exits: int) -> Work:
    """All run to the last exit."""
    terms = Terms(threshold=inf, min_exit=exits - 1, max_exit=exits - 1)
    return [(row, terms) for row in tokens]


def at_recorded_exits(tokens: Sequence[Tokens], exits: int) -> Work:
    """Every request is told which exit it leaves at, by recorded shares."""
    terms = [Terms(threshold=inf, min_exit=at, max_exit=at) for at in range(exits)]
    drawn = random.Random(0).choices(terms, EXIT_SHARES[:exits], k=len(tokens))
    return list(zip(tokens, drawn, strict=True))


def at_threshold(tokens: Sequence[Tokens], exits: int, threshold: float) -> Work:
    """All leave at the first exit that is sure enough."""
    terms = Terms(threshold, min_exit=0, max_exit=exits - 1)
    return [(row, terms) for row in tokens]


class Steps(NullObserver):
    """Tokens of the steps so far."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def stepped(self, batch: Batch, seconds: float) -> None:
        """Note a step."""
        del seconds
        self.tokens.append(batch.tokens)


async def throughput(
    exits: Sequence[int], backend: Backend, cost: CostModel, limits: Limits, work: Work
) -> dict[str, float]:
    """Requests a second through scheduler and engine, the layers that they ran, and one alone.

    `exits` are the layers that have one. Who is answered sends the next, so that as many are held
    until the last have been sent; what is answered before as many have been, or after that, does
    not count. Alone are the shorter half of the first 200, on the terms of the others.
    """
    settings = SchedulerConfig(
        stages=len(exits),
        slots=limits.slots,
        max_queue_requests=10**6,
        max_queue_tokens=10**9,
        max_batch_rows=limits.rows,
        max_batch_tokens=limits.tokens,
    )
    scheduler = Scheduler(settings, Adaptive(), cost)
    with ThreadPoolExecutor(STEPS_IN_FLIGHT) as executor:
        steps = Steps()
        engine = Engine(scheduler, backend, executor, steps, steps_in_flight=STEPS_IN_FLIGHT)
        running = asyncio.create_task(engine.run())

        def submit(row: Tokens, leaves: Terms) -> asyncio.Future[Answer]:
            return engine.submit(row, len(row), leaves, time.monotonic())

        held = HELD * limits.slots
        if len(work) <= 2 * held:
            raise ValueError(f"{len(work)} requests are too few for {held} held at a time")
        depths: list[int] = []
        times: list[float] = []
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = iter(work)

        def answered(answer: asyncio.Future[Answer]) -> None:
            if (error := answer.exception()) is not None:
                if not over.done():
                    over.set_exception(error)
                return
            depths.append(exits[answer.result().exit])
            times.append(time.perf_counter())
            follow()
            if len(depths) == len(work):
                over.set_result(None)

        def follow() -> None:
            if (following := next(waiting, None)) is not None:
                submit(*following).add_done_callback(answered)

        for _ in range(held):
            follow()
        await over
        usual = statistics.median(steps.tokens)
        alone: list[float] = []
        for one in sorted(work[: 2 * ALONE], key=lambda pair: len(pair[0]))[:ALONE]:
            begun = time.perf_counter()
            await submit(*one)
            alone.append(time.perf_counter() - begun)
        engine.stop()
        await running
    counted = slice(held, len(work) - held)
    return {
        "per_second": (len(times[counted]) - 1) / (times[counted][-1] - times[counted][0]),
        "mean_layers": statistics.fmean(depths),
        "median_step_tokens": usual,
        "one_in_flight_p50_ms": statistics.median(alone) * 1e3,
    }


def engine_rounds(exits: Sequence[int], backend: Backend, full: Work, early: Work) -> Rounds:
    """Throughput at full depth and with early exits, in turn."""
    run = partial(throughput, exits, backend, CostModel(len(exits)), Limits())
    run_on_loop(run(early[: len(early) // 2]))  # whatever comes first is cold
    return [(run_on_loop(run(full)), run_on_loop(run(early))) for _ in range(ROUNDS)]


def summary(rounds: Rounds) -> dict[str, Any]:
    """Medians, and how much of the layers that exits save is saved in time."""
    full, early = (
        {key: statistics.median(one[key] for one in mode) for key in mode[0]}
        for mode in zip(*rounds, strict=True)
    )
    gain = early["per_second"] / full["per_second"]
    possible = full["mean_layers"] / early["mean_layers"]
    gains = [early["per_second"] / full["per_second"] for full, early in rounds]
    return {
        "full": full,
        "early": early,
        "share_of_oracle": gain / possible,
        "shares_of_oracle": [gain / possible for gain in gains],
    }
