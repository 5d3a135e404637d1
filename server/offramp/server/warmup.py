"""Steps run before the first request: they warm the device and teach the cost model its prices."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from math import inf, isfinite
from typing import Protocol

from offramp.model.config import ModelConfig
from offramp.model.tokenizer import Tokens
from offramp.scheduler.backend import Backend, Batch
from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.request import Departure, Request, Terms

ROW_TOKENS = 24
REPEATS = 3


class WarmBackend(Backend, Protocol):
    """A backend that can compile before it is needed."""

    def warm(self, tokens: int) -> Iterable[Callable[[], None]]:
        """Pieces of work that compile what steps of up to `tokens` tokens need."""
        ...


def known_input(model: ModelConfig) -> Tokens:
    """The tokens that a model warms up with, which every model that serves has read."""
    tokens = min(ROW_TOKENS, model.max_tokens)
    return Tokens.of(range(tokens))


def warm_up(
    backend: WarmBackend,
    steps: Executor,
    model: ModelConfig,
    scheduler: SchedulerConfig,
    cost: CostModel,
) -> None:
    """Compile, then run every stage at one row, at half a batch and at a full one.

    The first run of each size pays for caches and teaches nothing. Every step is a job of its own
    for `steps`, so that a model that already serves there goes on between them.
    """
    for piece in backend.warm(max(scheduler.max_batch_tokens, model.max_tokens)):
        steps.submit(piece).result()
    row = known_input(model)
    tokens = len(row.ids)
    most = min(scheduler.max_batch_rows, scheduler.slots, scheduler.max_batch_tokens // tokens)
    for rows in sorted({1, max(1, most // 2), max(1, most)}):
        requests = tuple(_request(slot, row) for slot in range(rows))
        for repeat in range(REPEATS):
            for stage in range(model.exits):
                batch = Batch(stage, requests, time.monotonic())
                seconds = steps.submit(_timed, backend, batch).result()
                if repeat:
                    cost.observe(stage, rows, batch.tokens, seconds)
    _measure_readings(backend, steps, model.exits, row, cost)


def _measure_readings(
    backend: Backend, steps: Executor, stages: int, row: Tokens, cost: CostModel
) -> None:
    """What reading an exit adds to a step: the least with it, less the least without."""
    requests = (_request(0, row),)
    least = {(stage, reads): inf for stage in range(stages) for reads in (True, False)}
    for _ in range(REPEATS):
        for reads in (True, False):
            for stage in range(stages):
                batch = Batch(stage, requests, time.monotonic(), reads=reads)
                seconds = steps.submit(_timed, backend, batch).result()
                least[stage, reads] = min(least[stage, reads], seconds)
    for stage in range(stages):
        cost.observe_reading(stage, least[stage, True] - least[stage, False])


def _timed(backend: Backend, batch: Batch) -> float:
    """Seconds that a step takes; raises ValueError if it reads no probabilities."""
    started = time.monotonic()
    readings = backend.run(batch)
    seconds = time.monotonic() - started
    if batch.reads and not all(isfinite(sum(reading.probabilities)) for reading in readings):
        raise ValueError(f"the model gives undefined numbers at exit {batch.stage}")
    return seconds


def _request(slot: int, row: Tokens) -> Request:
    terms = Terms(threshold=inf, min_exit=0, max_exit=0)
    return Request(row, len(row.ids), terms, 0.0, deliver=_ignore, slot=slot)


def _ignore(departure: Departure) -> None:
    del departure
