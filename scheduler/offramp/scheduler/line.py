"""The line of requests ready for one stage, in the order in which they should run."""

from offramp.scheduler.heap import Entry, RequestHeap
from offramp.scheduler.request import Request


class Line:
    """Requests by rank, and how many tokens they are."""

    def __init__(self) -> None:
        self._heap = RequestHeap()
        self.tokens = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, request: Request, rank: float) -> None:
        """Join the line; the lowest rank is first, equals keep their order of joining."""
        self._heap.push(request, rank)
        self.tokens += request.tokens

    def remove(self, request: Request) -> None:
        """Leave the line from anywhere in it."""
        self._heap.remove(request)
        self.tokens -= request.tokens

    def take(self, max_rows: int, max_tokens: int) -> list[Request]:
        """Take the first in line and, in order, whoever else fits.

        The first goes even if it is longer than `max_tokens`, so nobody is passed over for ever.
        One that does not fit keeps its place and does not hold up shorter ones behind it; after
        `max_rows` of these the search ends, so that a cut costs no more than its batch.
        """
        taken: list[Request] = []
        passed: list[Entry] = []
        room = max_tokens
        while len(taken) < max_rows and len(passed) < max_rows and room > 0:
            entry = self._heap.pop()
            if entry is None:
                break
            request = entry[2]
            if request.tokens <= room or not taken:
                taken.append(request)
                room -= request.tokens
                self.tokens -= request.tokens
            else:
                passed.append(entry)
        for entry in passed:
            self._heap.restore(entry)
        return taken
