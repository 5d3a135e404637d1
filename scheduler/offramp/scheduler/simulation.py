"""The scheduler in virtual time: the same class that serves, driven by arrivals and a cost."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from offramp.scheduler.backend import Batch
from offramp.scheduler.errors import SchedulerError
from offramp.scheduler.request import Departure, Reading, Request
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

    `read` is what the exit of a stage says of a request, `cost` the seconds that a batch takes.
    """
    trace = Trace()
    pending = list(reversed(list(arrivals)))
    now = 0.0

    def admit(until: float) -> None:
        while pending and pending[-1].arrived <= until:
            request = pending.pop()
            try:
                scheduler.submit(request, request.arrived)
            except SchedulerError as error:
                trace.refusals.append((request, error))

    while True:
        admit(now)
        batch, departures = scheduler.next_batch(now)
        trace.departures += departures
        if batch is None:
            if not pending:
                trace.finished = now
                return trace
            now = pending[-1].arrived
            continue
        trace.batches.append(batch)
        ends = now + cost(batch)
        admit(ends)
        now = ends
        readings = [read(request, batch.stage) for request in batch.requests]
        trace.departures += scheduler.complete(batch, readings, now)
