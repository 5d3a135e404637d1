"""The line of requests ready for one stage, in the order in which they should run."""

from collections.abc import Callable, Sequence
from operator import attrgetter

from offramp.scheduler.heap import Entry, RequestHeap
from offramp.scheduler.request import Priority, Request

INTERACTIVE = Priority.INTERACTIVE

PASSED, PASSED_SHARE = 32, 4
"""Requests that do not fit are passed until there are so many, and one for so many that do fit."""

HARDLY = 128
"""One of so many parts of a step's tokens is not worth looking for who fits in."""


class Line:
    """Requests by rank; how many tokens they are, how many interactive, and when they came."""

    def __init__(self) -> None:
        self._heap = RequestHeap(attrgetter("rank"))
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

    def push(self, requests: Sequence[Request]) -> None:
        """Join the line; the lowest rank is first, equals keep their order of joining."""
        self._heap.push(requests)
        self._count(requests, 1)

    def remove(self, request: Request) -> None:
        """Leave the line from anywhere in it."""
        self._heap.remove(request)
        self._count((request,), -1)

    def take(
        self,
        max_rows: int,
        max_tokens: int,
        urgent: Request | None = None,
        affords: Callable[[int, int], bool] | None = None,
    ) -> list[Request]:
        """Take the first in line and, in order, whoever else fits; before all one that is urgent.

        The first goes even if it is longer than `max_tokens`, so nobody is passed over for ever.
        An urgent one has no more company than `affords`, of rows and tokens together, lets it.
        One that does not fit keeps its place and does not hold up shorter ones behind it. After
        some of these the search ends, or when what is left is hardly room, so that a cut costs
        little more than its batch.
        """
        taken: list[Request] = []
        passed: list[Entry] = []
        room = max_tokens
        if urgent is not None:
            self._heap.remove(urgent)
            taken.append(urgent)
            room -= urgent.tokens
        hardly = max_tokens // HARDLY
        entries = self._heap.leaving() if len(taken) < max_rows and room > hardly else ()
        for entry in entries:
            request = entry[2]
            tokens = request.tokens
            fits = tokens <= room
            if fits and affords is not None:
                fits = affords(len(taken) + 1, max_tokens - room + tokens)
            if fits or not taken:
                taken.append(request)
                room -= tokens
                if len(taken) == max_rows or room <= hardly:
                    break
            else:
                passed.append(entry)
                if len(passed) >= PASSED and PASSED_SHARE * len(passed) >= len(taken):
                    break
        for entry in passed:
            self._heap.restore(entry)
        self._count(taken, -1)
        return taken

    def _count(self, requests: Sequence[Request], sign: int) -> None:
        """Add those who join (1) or take away those who leave (-1)."""
        tokens = interactive = interactive_tokens = 0
        arrived = 0.0
        for request in requests:
            own = request.tokens
            tokens += own
            arrived += request.arrived
            if request.terms.priority is INTERACTIVE:
                interactive += 1
                interactive_tokens += own
        self.waiting += sign * len(requests)
        self.tokens += sign * tokens
        self.interactive += sign * interactive
        self.interactive_tokens += sign * interactive_tokens
        # Of an empty line no rounding is left.
        self.arrived_sum = self.arrived_sum + sign * arrived if self.waiting else 0.0
