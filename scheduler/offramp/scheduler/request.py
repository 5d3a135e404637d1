"""A request, what it asks for, what the exits said of it, and how it left."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from math import inf
from typing import NamedTuple

from offramp.scheduler.errors import SchedulerError
from offramp.scheduler.reading import Reading


class Priority(IntEnum):
    """Whether somebody waits for this one answer, or it is one of many."""

    INTERACTIVE = 0
    BULK = 1


class DeadlineAction(Enum):
    """What to do when the deadline comes before a confident answer."""

    BEST_ANSWER = "best_answer"
    FAIL = "fail"


class ExitReason(Enum):
    """Why a request left where it did."""

    CONFIDENT = "confident"
    FINAL = "final"
    DEADLINE = "deadline"
    LIMIT = "limit"
    OVERLOAD = "overload"


class State(Enum):
    """Where a request is: in the queue, between stages, in a step (or to retry it), or gone."""

    QUEUED = "queued"
    WAITING = "waiting"
    RUNNING = "running"
    RETRYING = "retrying"
    CANCELLED = "cancelled"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a request asks for.

    It leaves at the first exit from `min_exit` on whose score is at least `threshold`, and
    at `max_exit` in any case. `deadline` is absolute, on the scheduler's clock.
    """

    threshold: float
    min_exit: int
    max_exit: int
    priority: Priority = Priority.INTERACTIVE
    deadline: float = inf
    deadline_action: DeadlineAction = DeadlineAction.BEST_ANSWER


class Answer(NamedTuple):
    """A request's last reading, the exit it came from, and where its time went (seconds).

    `threshold` is the one that held: its own, or a lower one under overload.
    """

    reading: Reading
    exit: int
    reason: ExitReason
    queue: float
    compute: float
    total: float
    threshold: float


@dataclass(slots=True, eq=False)
class Request:
    """One input on its way; only the scheduler changes it once submitted.

    `payload` is the backend's (token ids, say), `context` belongs to whoever observes, and
    `deliver` is told once how the request left. Lines run the lowest `rank` first; `predicted` are
    the seconds to its first stage foreseen when it was submitted; `admitted` is the number of the
    step that gave it a slot; `readings` are those of the step that read it last, at the exit
    `read_at`, and `row` is its own among them.
    """

    payload: object
    tokens: int
    terms: Terms
    arrived: float
    deliver: Callable[["Departure"], None]
    context: object = None
    state: State = State.QUEUED
    rank: float = 0.0
    stage: int = 0
    slot: int = field(default=-1)
    readings: Sequence[Reading] = ()
    row: int = 0
    read_at: int = -1
    submitted: float = 0.0
    admitted: int = 0
    predicted: float = 0.0
    compute: float = 0.0

    @property
    def reading(self) -> Reading | None:
        """What the deepest exit said that read it; None before one did."""
        return self.readings[self.row] if self.read_at >= 0 else None

    def answer(self, reason: ExitReason, now: float, threshold: float | None = None) -> Answer:
        """The answer of the deepest exit read so far; its own threshold held if none is given."""
        reading = self.reading
        assert reading is not None
        return Answer(
            reading,
            self.read_at,
            reason,
            now - self.submitted - self.compute,
            self.compute,
            now - self.arrived,
            self.terms.threshold if threshold is None else threshold,
        )


class Departure(NamedTuple):
    """A request that left, answered or failed."""

    request: Request
    outcome: Answer | SchedulerError

    def deliver(self) -> None:
        """Tell whoever submitted the request."""
        self.request.deliver(self)
