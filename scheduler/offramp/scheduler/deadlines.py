"""The deadlines of all held requests that have one, soonest first."""

from operator import attrgetter

from offramp.scheduler.heap import RequestHeap
from offramp.scheduler.request import DeadlineAction, Request, State


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
        """Whose deadline is next, if it waits in a line for something only a step can give it."""
        entry = self._heap.first() if self.held else None
        if entry is None:
            return None
        request = entry[2]
        fails = request.terms.deadline_action is DeadlineAction.FAIL
        needs = request.state is State.QUEUED or (request.state is State.WAITING and fails)
        return request if needs else None
