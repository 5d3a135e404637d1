"""Steps run before the first request: they warm the device and teach the cost model its prices."""

import time
from math import inf
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

    def warm(self, tokens: int) -> None:
        """Compile whatever steps of up to `tokens` tokens need."""
        ...


def warm_up(
    backend: WarmBackend, model: ModelConfig, scheduler: SchedulerConfig, cost: CostModel
) -> None:
    """Compile, then run every stage at one row, at half a batch and at a full one.

    The first run of each size pays for caches and teaches nothing.
    """
    backend.warm(max(scheduler.max_batch_tokens, model.max_tokens))
    tokens = min(ROW_TOKENS, model.max_tokens)
    most = min(scheduler.max_batch_rows, scheduler.slots, scheduler.max_batch_tokens // tokens)
    for rows in sorted({1, max(1, most // 2), max(1, most)}):
        requests = tuple(_request(slot, tokens) for slot in range(rows))
        for repeat in range(REPEATS):
            for stage in range(model.exits):
                started = time.monotonic()
                batch = Batch(stage, requests, started)
                backend.run(batch)
                if repeat:
                    cost.observe(stage, rows, batch.tokens, time.monotonic() - started)
    _measure_readings(backend, model.exits, tokens, cost)


def _measure_readings(backend: Backend, stages: int, tokens: int, cost: CostModel) -> None:
    """What reading an exit adds to a step: the least with it, less the least without."""
    requests = (_request(0, tokens),)
    least = {(stage, reads): inf for stage in range(stages) for reads in (True, False)}
    for _ in range(REPEATS):
        for reads in (True, False):
            for stage in range(stages):
                started = time.monotonic()
                backend.run(Batch(stage, requests, started, reads=reads))
                seconds = time.monotonic() - started
                least[stage, reads] = min(least[stage, reads], seconds)
    for stage in range(stages):
        cost.observe_reading(stage, least[stage, True] - least[stage, False])


def _request(slot: int, tokens: int) -> Request:
    payload = Tokens(tuple(range(tokens)), (0,) * tokens, truncated=False)
    terms = Terms(threshold=inf, min_exit=0, max_exit=0)
    return Request(payload, tokens, terms, 0.0, deliver=_ignore, slot=slot)


def _ignore(departure: Departure) -> None:
    del departure
