"""Stand-ins for the model: readings that are known in advance, in no time."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from math import inf

from offramp.scheduler.backend import Batch
from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.policy import Adaptive, Policy
from offramp.scheduler.reading import Reading
from offramp.scheduler.relief import Relief
from offramp.scheduler.request import DeadlineAction, Departure, Priority, Request, Terms
from offramp.scheduler.scheduler import Scheduler

PATIENCE = 30.0
"""Seconds after which a test gives up waiting."""


def scheduler(
    stages: int = 3,
    *,
    policy: Policy | None = None,
    relief: Relief | None = None,
    exact_exits: bool = True,
    **limits: int,
) -> Scheduler:
    """A scheduler with an untaught cost model."""
    config = SchedulerConfig(stages, exact_exits=exact_exits, **limits)
    return Scheduler(config, policy or Adaptive(), CostModel(stages), relief)


def request(
    arrived: float = 0.0,
    *,
    confidences: Sequence[float] = (0.5, 0.7, 0.9),
    tokens: int = 8,
    threshold: float = 0.8,
    min_exit: int = 0,
    max_exit: int = 99,
    deadline: float = inf,
    action: DeadlineAction = DeadlineAction.BEST_ANSWER,
    priority: Priority = Priority.INTERACTIVE,
    log: list[Departure] | None = None,
) -> Request:
    """A request whose payload is what each exit will say of it."""
    terms = Terms(threshold, min_exit, max_exit, priority, deadline, action)
    delivered = [] if log is None else log
    return Request(tuple(confidences), tokens, terms, arrived, deliver=delivered.append)


def read(of: Request, stage: int) -> Reading:
    """What the exit of a stage says of a fake request."""
    assert isinstance(of.payload, tuple)
    confidence = float(of.payload[stage])
    return Reading(0, confidence, (confidence, 1 - confidence))


def teach(core: Scheduler, seconds: Mapping[int, float]) -> Scheduler:
    """The scheduler, which now knows what a step of one request takes, by its tokens."""
    for stage in range(core.config.stages):
        for tokens, long in seconds.items():
            core.cost.observe(stage, 1, tokens, long)
    return core


def cut(core: Scheduler, now: float) -> Batch:
    """The batch that is cut now; nobody leaves before it."""
    batch, left = core.next_batch(now)
    assert batch is not None
    assert not left
    return batch


def complete(core: Scheduler, batch: Batch, now: float, *, learn: bool = True) -> list[Departure]:
    """Who leaves after a step of fake requests that ends now."""
    readings = [read(one, batch.stage) for one in batch.requests] if batch.reads else []
    return core.complete(batch, readings, now, learn=learn)


def step(core: Scheduler, now: float, seconds: float = 1.0) -> Batch:
    """The batch that is cut now and runs so long."""
    batch = cut(core, now)
    complete(core, batch, now + seconds)
    return batch


class FakeBackend:
    """Reads fake requests; fails batches that hold a poisonous one (confidence below 0)."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def run(self, batch: Batch) -> Sequence[Reading]:
        """Readings of the batch, or RuntimeError."""
        self.batches.append(batch)
        readings = [read(one, batch.stage) for one in batch.requests]
        if any(reading.confidence < 0 for reading in readings):
            raise RuntimeError("poison")
        return readings


class GatedBackend(FakeBackend):
    """Fake readings, once the gate is open; `entered` says that a step waits before it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.entered = threading.Event(), threading.Event()

    def run(self, batch: Batch) -> Sequence[Reading]:
        """As a FakeBackend, when the gate is open."""
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        return super().run(batch)

    async def is_entered(self) -> None:
        """Return when a step waits before the gate."""
        assert await asyncio.to_thread(self.entered.wait, PATIENCE)


class Where(FakeBackend):
    """Notes the thread of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[str] = []

    def run(self, batch: Batch) -> Sequence[Reading]:
        """As a FakeBackend."""
        self.threads.append(threading.current_thread().name)
        return super().run(batch)
