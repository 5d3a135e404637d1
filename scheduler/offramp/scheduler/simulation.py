"""The scheduler in virtual time: the same class that serves, driven by arrivals and a cost."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from offramp.scheduler.backend import Batch
from offramp.scheduler.errors import SchedulerError
from offramp.scheduler.reading import Reading
from offramp.scheduler.request import Departure, Request
from offramp.scheduler.scheduler import Scheduler


@dataclass(slots=True)
class Trace:
    """What happened: batches in the order run, departures, and refusals at the door."""

    batches: list[Batch] = field(default_factory=list[Batch])
    departures: list[Departure] = field(default_factory=list[Departure])
    refusals: list[tuple[Request, SchedulerError]] = field(
        default_factory=list[tuple[Request, SchedulerError]]
    )
    finished: float = 0.0


def simulate(
    scheduler: Scheduler,
    arrivals: Iterable[Request],
    read: Callable[[Request, int], Reading],
    cost: Callable[[Batch], float],
) -> Trace:
    """Run requests, given in order of `arrived`, until all have left.

    `read` is what the exit of a stage says of a request, `cost` the seconds that a batch takes. As
    many batches run at the same time as the scheduler has workers.
    """
    trace = Trace()
    pending = list(reversed(list(arrivals)))
    workers = scheduler.config.workers
    running: list[tuple[float, int, Batch]] = []
    now = 0.0
    while True:
        # Whoever comes while every worker is busy is in line when the next one is free.
        until = running[0][0] if len(running) == workers else now
        while pending and pending[-1].arrived <= until:
            request = pending.pop()
            try:
                scheduler.submit(request, request.arrived)
            except SchedulerError as error:
                trace.refusals.append((request, error))
        if len(running) < workers:
            batch, departures = scheduler.next_batch(now)
            trace.departures += departures
            if batch is not None:
                trace.batches.append(batch)
                heappush(running, (now + cost(batch), len(trace.batches), batch))
                continue
            if pending and (not running or pending[-1].arrived < running[0][0]):
                now = pending[-1].arrived
                continue
        if not running:
            trace.finished = now
            return trace
        now, _, batch = heappop(running)
        readings = [read(request, batch.stage) for request in batch.requests]
        trace.departures += scheduler.complete(batch, readings, now)
