"""Batches on their way through a backend: on an executor's threads, or on a device of its own."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from offramp.scheduler.backend import Backend, Batch, Launched, LaunchingBackend
from offramp.scheduler.observer import Observer
from offramp.scheduler.reading import Reading
from offramp.scheduler.scheduler import Scheduler
from offramp.scheduler.sleeper import Sleeper

Outcome = Callable[[], Sequence[Reading]]
"""Gives what a step read, or raises what it raised."""


@dataclass(frozen=True, slots=True)
class Lane:
    """A scheduler and whoever counts what it does."""

    scheduler: Scheduler
    observer: Observer


class Landed(NamedTuple):
    """A batch whose step has ended, well or not, and the lane that it is of."""

    lane: Lane
    batch: Batch
    outcome: Outcome

    def readings(self) -> Sequence[Reading]:
        """One of each request if the batch reads; raises whatever the step did, or ValueError."""
        readings, requests = self.outcome(), len(self.batch.requests)
        if self.batch.reads and len(readings) != requests:
            raise ValueError(f"{len(readings)} readings of {requests} requests, not one each")
        return readings


class Flights:
    """Sends batches off and has them back; the sleeper is woken when one is.

    Nobody tells of a step that was launched on a device: it is looked at when `land` is called. To
    be told takes a thread, which waits for Python's lock whenever this loop is busy.
    """

    def __init__(self, backend: Backend, executor: Executor, sleeper: Sleeper) -> None:
        self._run = backend.run
        self._launch = backend.launch if isinstance(backend, LaunchingBackend) else None
        self._executor = executor
        self._sleeper = sleeper
        self._launched: deque[tuple[Lane, Batch, Launched]] = deque()
        self._back: deque[Landed] = deque()

    @property
    def back(self) -> bool:
        """Whether `land` has one that its thread told of."""
        return bool(self._back)

    @property
    def on_device(self) -> bool:
        """Whether there are steps that have to be looked at."""
        return bool(self._launched)

    def send(self, lane: Lane, batch: Batch) -> None:
        """Send a batch off; whatever its backend raises is its outcome."""
        loop = asyncio.get_running_loop()
        if self._launch is None:
            step = loop.run_in_executor(self._executor, self._run, batch)
            step.add_done_callback(lambda step: self._told(lane, batch, step.result))
            return
        try:
            self._launched.append((lane, batch, self._launch(batch)))
        except Exception as error:  # noqa: BLE001 - whatever a model raises
            # In a later pass: on a lost device all that is held fails, and others want a turn.
            loop.call_soon(self._told, lane, batch, partial(_again, error))

    def land(self) -> Landed | None:
        """One that is back, in the order in which they came; None if there is none."""
        if self._launched and self._launched[0][2].done():
            lane, batch, launched = self._launched.popleft()
            return Landed(lane, batch, launched.readings)
        return self._back.popleft() if self._back else None

    def _told(self, lane: Lane, batch: Batch, outcome: Outcome) -> None:
        self._back.append(Landed(lane, batch, outcome))
        self._sleeper.wake()


def _again(error: Exception) -> Sequence[Reading]:
    raise error
