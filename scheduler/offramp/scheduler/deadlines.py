"""The deadlines of all held requests that have one, soonest first."""

from itertools import islice
from operator import attrgetter

from offramp.scheduler.heap import RequestHeap
from offramp.scheduler.request import DeadlineAction, Request, State

LOOKED = 4
"""Deadlines among which the soonest is looked for that a step can keep."""


class Deadlines:
    """Who has to be answered by when."""

    def __init__(self) -> None:
        self._heap = RequestHeap(attrgetter("terms.deadline"))
        self.held = 0
        """How many there are."""

    def add(self, request: Request) -> None:
        """Remember the deadline of a request."""
        self._heap.push((request,))
        self.held += 1

    def forget(self, request: Request) -> None:
        """Forget a request that was added."""
        self._heap.remove(request)
        self.held -= 1

    def waiting_before(self, time: float) -> list[Request]:
        """Requests in lines whose deadline is before `time`, soonest first."""
        if not self.held:
            return []
        entries = list(self._heap.leaving(below=time))
        for entry in entries:
            self._heap.restore(entry)
        waiting = (State.QUEUED, State.WAITING)
        return [request for _, _, request in entries if request.state in waiting]

    @property
    def most_urgent(self) -> Request | None:
        """Whose deadline is next of those in a line who need what only a step can give."""
        first = self._heap.first() if self.held else None
        if first is None or _needs_a_step(first[2]):
            return first and first[2]
        entries = list(islice(self._heap.leaving(), LOOKED))
        for entry in entries:
            self._heap.restore(entry)
        return next((request for _, _, request in entries if _needs_a_step(request)), None)


def _needs_a_step(request: Request) -> bool:
    """Whether it waits, and not with a reading that would do."""
    fails = request.terms.deadline_action is DeadlineAction.FAIL
    return request.state is State.QUEUED or (request.state is State.WAITING and fails)
