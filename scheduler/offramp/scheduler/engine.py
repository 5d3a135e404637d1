"""The asyncio engine: runs what the scheduler decides, on threads or here, and nothing else."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial

from offramp.scheduler.answers import AnswerFuture
from offramp.scheduler.backend import Backend, Batch
from offramp.scheduler.deliveries import Deliveries
from offramp.scheduler.errors import SchedulerError
from offramp.scheduler.flights import Flights, Landed, Lane
from offramp.scheduler.observer import NullObserver, Observer
from offramp.scheduler.request import Departure, Request, State, Terms
from offramp.scheduler.room import Room
from offramp.scheduler.scheduler import Scheduler
from offramp.scheduler.sleeper import Sleeper
from offramp.scheduler.solitude import Solitude

TURNS = 8
"""Passes of the event loop from a call's first byte to its request, with as much to spare."""


class Engine:
    """Submits requests to a scheduler and steps its batches through a backend.

    An `idle` lane has requests of its own, in slots of its own, submitted to its scheduler by an
    observer, and is stepped only when nothing else is ready; nobody waits for them.

    Everything here runs on one event loop but `backend.run`, which runs on `executor`: a thread for
    each of the scheduler's workers. A backend that launches needs none: while its device runs a
    step the loop looks at it once a pass. With more `steps_in_flight` than workers a full batch is
    cut while others run, so that the device need not wait for this loop.

    A step that is predicted to take less than `at_once` seconds runs right here: handing it over
    would take longer. So does one of up to `alone_at_once` seconds where one caller sends a request
    after the other and nobody else does: here cores share its products, which pays while they are
    awake. What such a step took is not learned: others take longer. The clock is `time.monotonic`,
    for arrivals and deadlines alike.

    Nothing that it owns refers to it, so that it and the model go once nobody holds it: a search
    for garbage would hold the loop.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        backend: Backend,
        executor: Executor,
        observer: Observer | None = None,
        idle: Lane | None = None,
        steps_in_flight: int = 1,
        at_once: float = 0.0,
        alone_at_once: float = 0.0,
    ) -> None:
        self.scheduler = scheduler
        self._observer = observer or NullObserver()
        self._lane = Lane(scheduler, self._observer)
        self._idle = idle
        self._backend = backend
        self._steps_in_flight = max(steps_in_flight, scheduler.config.workers)
        self._at_once = at_once
        self._alone_at_once = alone_at_once
        self._solitude = Solitude()
        self._flying = 0
        self._sleeper = Sleeper()
        self._flights = Flights(backend, executor, self._sleeper)
        self._room = Room(scheduler)
        self._deliveries = Deliveries(self._observer)
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def due(self) -> float:
        """When the first of the steps that run was predicted to end; infinite if none runs."""
        lanes = (self._lane,) if self._idle is None else (self._lane, self._idle)
        return min(lane.scheduler.due for lane in lanes)

    def submit(
        self, payload: object, tokens: int, terms: Terms, arrived: float, context: object = None
    ) -> AnswerFuture:
        """Submit one request; the future will hold its Answer or a SchedulerError.

        Cancelling the future cancels the request, wherever it is. Raises the SchedulerError of a
        request that is refused.
        """
        future = AnswerFuture(loop=self._loop)
        request = Request(payload, tokens, terms, arrived, future.settle, context)
        try:
            self.scheduler.submit(request, time.monotonic())
        except SchedulerError as error:
            self._observer.refused(request, error)
            raise
        future.request, future.forget = request, self._forget
        if self._flying < self._steps_in_flight:
            self._sleeper.wake()
        return future

    def turned_away(self, terms: Terms, arrived: float, coming: int) -> SchedulerError | None:
        """Why a request would be refused now, whatever it holds; if so it counts as refused.

        For those who ask before they tokenize; `coming` are those who asked and are not here yet.
        """
        error = self.scheduler.refusal(time.monotonic(), coming)
        if error is not None:
            self._observer.refused(Request(None, 0, terms, arrived, lambda _: None), error)
        return error

    async def room(self) -> None:
        """Return when the queue has room to spare, for who would rather wait than be refused."""
        await self._room.wait()

    async def run(self) -> None:
        """Step until `stop`, and then until everything held has left."""
        # To look it up for every future would be a call to the kernel each.
        self._loop = asyncio.get_running_loop()
        while True:
            while (landed := self._flights.land()) is not None:
                self._absorb(landed)
            self._deliveries.some()
            while self._flying < self._steps_in_flight and not self._flights.back:
                lane, batch = self._next()
                if batch is None:
                    break
                if 0 < batch.predicted < self._at_once:
                    self._run_here(lane, batch)
                    if self._nothing_held:
                        break
                    await asyncio.sleep(0)
                elif self._alone(lane, batch):
                    self._run_here(lane, batch, learn=False)
                    for _ in range(TURNS):  # whoever came meanwhile is seen before the next step
                        await asyncio.sleep(0)
                else:
                    self._flying += 1
                    self._flights.send(lane, batch)
            if self._stopping and not (self._flying or self._deliveries) and self.scheduler.idle:
                return
            if self._deliveries or self._flights.on_device:
                await asyncio.sleep(0)
            elif not self._flights.back:
                await self._sleeper.sleep(self._loop)

    def stop(self) -> None:
        """Refuse new requests; `run` returns when those held have left."""
        self._stopping = True
        self.scheduler.drain()
        self._sleeper.wake()

    @property
    def _nothing_held(self) -> bool:
        """Whether no lane has a request, so that there is no next batch to look for."""
        return self.scheduler.idle and (self._idle is None or self._idle.scheduler.idle)

    def _forget(self, request: Request) -> None:
        """Cancel a request whose owner has given it up."""
        if request.state is not State.DONE:
            self._observer.cancelled(request, request.state)
            self.scheduler.cancel(request)
            self._room.grant()

    def _alone(self, lane: Lane, batch: Batch) -> bool:
        """Whether its request is the only one, as those before it, and the step won't take long."""
        if lane is not self._lane:
            return False
        core = self.scheduler
        met = self._flying > 0 or core.queued > 0 or core.slots.held > 1
        return self._solitude.of(batch, others=met) and 0 < batch.predicted < self._alone_at_once

    def _run_here(self, lane: Lane, batch: Batch, *, learn: bool = True) -> None:
        """Run a batch on this loop and absorb it, so that its time is its own."""
        self._flying += 1
        self._absorb(Landed(lane, batch, partial(self._backend.run, batch)), learn=learn)
        self._deliveries.some()

    def _next(self) -> tuple[Lane, Batch | None]:
        """The next batch and its lane; the idle lane's only if nothing else is ready or runs."""
        busy = self._stopping or self._flying or self._deliveries
        for lane in (self._lane, None if busy else self._idle):
            if lane is not None:
                batch, departures = lane.scheduler.next_batch(time.monotonic())
                self._depart(lane, departures)
                if batch is not None:
                    return lane, batch
        return self._lane, None

    def _absorb(self, landed: Landed, *, learn: bool = True) -> None:
        self._flying -= 1
        lane, batch = landed.lane, landed.batch
        try:
            readings = landed.readings()
        except Exception as error:  # noqa: BLE001 - whatever a model raises
            lane.observer.failed(batch, error)
            departures = lane.scheduler.fail(batch, error)
        else:
            departures = lane.scheduler.complete(batch, readings, time.monotonic(), learn=learn)
            lane.observer.stepped(batch, time.monotonic() - batch.started)
        self._depart(lane, departures)

    def _depart(self, lane: Lane, departures: Sequence[Departure]) -> None:
        if departures and lane is self._lane:
            self._solitude.answered(time.monotonic())
            self._deliveries.add(departures)
        else:
            for departure in departures:  # of one step at a time, and nobody works on being told
                lane.observer.departed(departure)
                departure.deliver()
        self._room.grant()
