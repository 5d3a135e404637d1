"""The asyncio engine: runs what the scheduler decides, on a thread of its own, and nothing else."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from offramp.scheduler.backend import Backend
from offramp.scheduler.errors import SchedulerError
from offramp.scheduler.observer import NullObserver, Observer
from offramp.scheduler.request import Answer, Departure, Request, Terms
from offramp.scheduler.scheduler import Scheduler

AnswerFuture = asyncio.Future[Answer]


class Engine:
    """Submits requests to a scheduler and steps its batches through a backend.

    Everything here runs on one event loop but `backend.run`, which runs on `executor`. The clock
    is `time.monotonic`, for arrivals and deadlines alike.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        backend: Backend,
        executor: Executor,
        observer: Observer | None = None,
    ) -> None:
        self.scheduler = scheduler
        self._backend = backend
        self._executor = executor
        self._observer = observer or NullObserver()
        self._work = asyncio.Event()
        self._waiting_for_room: deque[asyncio.Future[None]] = deque()
        self._stopping = False

    def submit(self, payload: object, tokens: int, terms: Terms, arrived: float) -> AnswerFuture:
        """Submit one request; the future will hold its Answer or a SchedulerError.

        Cancelling the future cancels the request, wherever it is. Raises the SchedulerError of a
        request that is refused.
        """
        future: AnswerFuture = asyncio.get_running_loop().create_future()
        request = Request(payload, tokens, terms, arrived, deliver=_settler(future))
        try:
            self.scheduler.submit(request, time.monotonic())
        except SchedulerError as error:
            self._observer.refused(request, error)
            raise

        def forget(settled: AnswerFuture) -> None:
            if settled.cancelled():
                self.scheduler.cancel(request)
                self._grant_room()

        future.add_done_callback(forget)
        self._work.set()
        return future

    async def room(self) -> None:
        """Return when the queue has room, for callers who would rather wait than be refused."""
        while not self.scheduler.has_room:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting_for_room.append(waiter)
            await waiter

    async def run(self) -> None:
        """Step until `stop`, and then until everything held has left."""
        loop = asyncio.get_running_loop()
        while True:
            batch, departures = self.scheduler.next_batch(time.monotonic())
            self._deliver(departures)
            if batch is None:
                if self._stopping and self.scheduler.idle:
                    return
                self._work.clear()
                await self._work.wait()
                continue
            try:
                readings = await loop.run_in_executor(self._executor, self._backend.run, batch)
            except Exception as error:  # noqa: BLE001 - whatever a model raises
                departures = self.scheduler.fail(batch, error)
            else:
                departures = self.scheduler.complete(batch, readings, time.monotonic())
            self._observer.stepped(batch, time.monotonic() - batch.started)
            self._deliver(departures)

    def stop(self) -> None:
        """Refuse new requests; `run` returns when those held have left."""
        self._stopping = True
        self.scheduler.drain()
        self._work.set()

    def _deliver(self, departures: Sequence[Departure]) -> None:
        for departure in departures:
            self._observer.departed(departure)
            departure.deliver()
        self._grant_room()

    def _grant_room(self) -> None:
        while self._waiting_for_room and self.scheduler.has_room:
            waiter = self._waiting_for_room.popleft()
            if not waiter.done():
                waiter.set_result(None)


def _settler(future: AnswerFuture) -> Callable[[Departure], None]:
    def settle(departure: Departure) -> None:
        if future.done():
            return
        if isinstance(departure.outcome, SchedulerError):
            future.set_exception(departure.outcome)
        else:
            future.set_result(departure.outcome)

    return settle
