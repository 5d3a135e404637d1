"""What the engine needs of whoever runs the model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Protocol, runtime_checkable

from offramp.scheduler.reading import Reading
from offramp.scheduler.request import Request

TOKENS_OF = attrgetter("tokens")


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests at one stage, run together once.

    `started` is the scheduler's clock and `predicted` what the cost model expects, in seconds.
    Where the batch does not `reads` its exit, nobody in it may leave there. `tokens` are those of
    all requests.
    """

    stage: int
    requests: tuple[Request, ...]
    started: float
    predicted: float = 0.0
    reads: bool = True
    tokens: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", sum(map(TOKENS_OF, self.requests)))

    @property
    def lengths(self) -> list[int]:
        """Tokens of each request."""
        return list(map(TOKENS_OF, self.requests))


class Backend(Protocol):
    """Runs stages; called from one thread, one batch at a time."""

    def run(self, batch: Batch) -> Sequence[Reading]:
        """Run the batch's stage and read its exit: one reading a request, in their order.

        Nothing need be read where not `batch.reads`. What a request's next stage needs is kept
        under its slot. If this raises, what the slots kept before must still be there: the batch
        is run again in halves, until whoever caused it fails alone.
        """
        ...


class Launched(Protocol):
    """A step that a device runs on its own."""

    def done(self) -> bool:
        """Whether the device is through with it, well or not; never waits."""
        ...

    def readings(self) -> Sequence[Reading]:
        """What `Backend.run` returns or raises; waits for the device where it must."""
        ...


@runtime_checkable
class LaunchingBackend(Backend, Protocol):
    """A backend whose device runs steps on its own, in the order in which they are launched."""

    def launch(self, batch: Batch) -> Launched:
        """Start a step and return at once; called from one thread."""
        ...
