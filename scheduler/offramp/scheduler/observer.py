"""What the engine tells whoever counts: steps, departures, refusals."""

from typing import Protocol

from offramp.scheduler.backend import Batch
from offramp.scheduler.errors import SchedulerError
from offramp.scheduler.request import Departure, Request


class Observer(Protocol):
    """Called on the event loop; must be quick and must not raise."""

    def stepped(self, batch: Batch, seconds: float) -> None:
        """A batch ran."""
        ...

    def departed(self, departure: Departure) -> None:
        """A request left, answered or failed."""
        ...

    def refused(self, request: Request, error: SchedulerError) -> None:
        """A request was not admitted to the queue."""
        ...


class NullObserver:
    """Counts nothing."""

    def stepped(self, batch: Batch, seconds: float) -> None:
        """Ignore it."""

    def departed(self, departure: Departure) -> None:
        """Ignore it."""

    def refused(self, request: Request, error: SchedulerError) -> None:
        """Ignore it."""
