"""The deadlines of all held requests that have one, soonest first."""

from offramp.scheduler.errors import (
    DeadlineExceededError,
    DeadlineUnreachableError,
    SchedulerError,
)
from offramp.scheduler.heap import Entry, RequestHeap
from offramp.scheduler.request import Answer, DeadlineAction, ExitReason, Request, State


class Deadlines:
    """Who has to be answered by when."""

    def __init__(self) -> None:
        self._heap = RequestHeap()

    def add(self, request: Request) -> None:
        """Remember the deadline of a request."""
        self._heap.push(request, request.terms.deadline)

    def forget(self, request: Request) -> None:
        """Forget a request that was added."""
        self._heap.remove(request)

    def waiting_before(self, time: float) -> list[Request]:
        """Requests in lines whose deadline is before `time`, soonest first."""
        entries: list[Entry] = []
        while entry := self._heap.pop(below=time):
            entries.append(entry)
        for entry in entries:
            self._heap.restore(entry)
        waiting = (State.QUEUED, State.WAITING)
        return [request for _, _, request in entries if request.state in waiting]

    @property
    def most_urgent(self) -> Request | None:
        """Whose deadline is next, if it waits in a line for something only a step can give it."""
        entry = self._heap.first()
        if entry is None:
            return None
        request = entry[2]
        fails = request.terms.deadline_action is DeadlineAction.FAIL
        needs = request.state is State.QUEUED or (request.state is State.WAITING and fails)
        return request if needs else None


def late(request: Request, now: float, horizon: float) -> Answer | SchedulerError:
    """What becomes of a request that no step can bring further in time.

    `horizon` is when the step that it would have to run in, or wait for, is predicted to end.
    """
    terms = request.terms
    if request.reading is None and now < terms.deadline:
        return DeadlineUnreachableError(horizon - now, terms.deadline - now)
    if request.reading is None or terms.deadline_action is DeadlineAction.FAIL:
        return DeadlineExceededError()
    return request.answer(ExitReason.DEADLINE, now)
