"""The line of requests ready for one stage, in the order in which they should run."""

from offramp.scheduler.heap import Entry, RequestHeap
from offramp.scheduler.request import Priority, Request


class Line:
    """Requests by rank; how many tokens they are, how many interactive, and when they came."""

    def __init__(self) -> None:
        self._heap = RequestHeap()
        self.waiting = 0
        self.tokens = 0
        self.interactive = 0
        self.interactive_tokens = 0
        self.arrived_sum = 0.0

    def __len__(self) -> int:
        return self.waiting

    @property
    def first(self) -> Request | None:
        """Who goes next; None if nobody waits."""
        entry = self._heap.first()
        return entry and entry[2]

    def push(self, request: Request) -> None:
        """Join the line; the lowest rank is first, equals keep their order of joining."""
        self._heap.push(request, request.rank)
        tokens = request.tokens
        self.waiting += 1
        self.tokens += tokens
        self.arrived_sum += request.arrived
        if request.terms.priority is Priority.INTERACTIVE:
            self.interactive += 1
            self.interactive_tokens += tokens

    def remove(self, request: Request) -> None:
        """Leave the line from anywhere in it."""
        self._heap.remove(request)
        self._left(request)

    def take(self, max_rows: int, max_tokens: int, urgent: Request | None = None) -> list[Request]:
        """Take the first in line and, in order, whoever else fits; before all one that is urgent.

        The first goes even if it is longer than `max_tokens`, so nobody is passed over for ever.
        One that does not fit keeps its place and does not hold up shorter ones behind it; after
        `max_rows` of these the search ends, so that a cut costs no more than its batch.
        """
        taken: list[Request] = []
        passed: list[Entry] = []
        room = max_tokens
        if urgent is not None:
            self.remove(urgent)
            taken.append(urgent)
            room -= urgent.tokens
        pop = self._heap.pop
        while len(taken) < max_rows and len(passed) < max_rows and room > 0:
            entry = pop()
            if entry is None:
                break
            request = entry[2]
            if request.tokens <= room or not taken:
                taken.append(request)
                room -= request.tokens
                self._left(request)
            else:
                passed.append(entry)
        for entry in passed:
            self._heap.restore(entry)
        return taken

    def _left(self, request: Request) -> None:
        tokens = request.tokens
        self.waiting -= 1
        self.tokens -= tokens
        self.arrived_sum -= request.arrived
        if request.terms.priority is Priority.INTERACTIVE:
            self.interactive -= 1
            self.interactive_tokens -= tokens
        if not self.waiting:
            self.arrived_sum = 0.0
