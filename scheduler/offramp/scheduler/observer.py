"""What the engine tells whoever counts: steps, departures, refusals, cancellations."""

from typing import Protocol

from offramp.scheduler.backend import Batch
from offramp.scheduler.errors import SchedulerError
from offramp.scheduler.request import Departure, Request, State


class Observer(Protocol):
    """Called on the event loop; must be quick and must not raise."""

    def stepped(self, batch: Batch, seconds: float) -> None:
        """A batch ran."""
        ...

    def failed(self, batch: Batch, error: Exception) -> None:
        """A batch could not be run; its requests depart next."""
        ...

    def departed(self, departure: Departure) -> None:
        """A request left, answered or failed."""
        ...

    def refused(self, request: Request, error: SchedulerError) -> None:
        """A request was not admitted to the queue."""
        ...

    def cancelled(self, request: Request, state: State) -> None:
        """A request's owner gave it up while it was in this state."""
        ...


class NullObserver:
    """Counts nothing."""

    def stepped(self, batch: Batch, seconds: float) -> None:
        """Ignore it."""

    def failed(self, batch: Batch, error: Exception) -> None:
        """Ignore it."""

    def departed(self, departure: Departure) -> None:
        """Ignore it."""

    def refused(self, request: Request, error: SchedulerError) -> None:
        """Ignore it."""

    def cancelled(self, request: Request, state: State) -> None:
        """Ignore it."""
