"""Requests by rank, lowest first, that may leave from anywhere."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf

from offramp.scheduler.request import Request

Entry = tuple[float, int, Request]
"""Rank, order of arrival among equals, request."""


class RequestHeap:
    """A queue in front of a binary heap, both with removal.

    Most requests come in the order of their ranks: those go to the end of the queue, the others
    into the heap, and the lowest of all is the first of one of the two. A request that is removed
    is only marked; its entry goes when it comes up, or all at once when the marked outnumber the
    rest. So every operation is O(log n), averaged, and O(1) where ranks only rise.
    """

    def __init__(self, rank_of: Callable[[Request], float]) -> None:
        self._rank_of = rank_of
        self._rising: deque[Entry] = deque()
        self._entries: list[Entry] = []
        self._removed: set[Request] = set()
        self._sequence = count()

    def __len__(self) -> int:
        return len(self._rising) + len(self._entries) - len(self._removed)

    def push(self, requests: Sequence[Request]) -> None:
        """Add requests, each behind those of equal rank."""
        rising = self._rising
        highest = rising[-1][0] if rising else -inf
        for entry in zip(map(self._rank_of, requests), self._sequence, requests, strict=False):
            if entry[0] >= highest:
                rising.append(entry)
                highest = entry[0]
            else:
                heappush(self._entries, entry)

    def first(self) -> Entry | None:
        """The entry of lowest rank, which stays; None if there is none."""
        rising, entries, removed = self._rising, self._entries, self._removed
        while True:
            ahead = rising and not (entries and entries[0] < rising[0])
            entry = rising[0] if ahead else entries[0] if entries else None
            if entry is None or not removed or entry[2] not in removed:
                return entry
            removed.remove(entry[2])
            if ahead:
                rising.popleft()
            else:
                heappop(entries)

    def leaving(self, below: float = inf) -> Iterator[Entry]:
        """Take entries off, lowest rank first, as far as whoever asks goes on and ranks `below`.

        The heap must not be changed meanwhile.
        """
        rising, entries = self._rising, self._entries
        while True:
            if self._removed:
                self.first()
            if rising and not (entries and entries[0] < rising[0]):
                if rising[0][0] >= below:
                    return
                yield rising.popleft()
            elif entries and entries[0][0] < below:
                yield heappop(entries)
            else:
                return

    def restore(self, entry: Entry) -> None:
        """Put back an entry that was taken off, in the place it had."""
        heappush(self._entries, entry)

    def remove(self, request: Request) -> None:
        """Take a request out from anywhere."""
        self._removed.add(request)
        if len(self._removed) > (len(self._rising) + len(self._entries)) // 2:
            removed = self._removed
            self._rising = deque(entry for entry in self._rising if entry[2] not in removed)
            self._entries = [entry for entry in self._entries if entry[2] not in removed]
            heapify(self._entries)
            self._removed.clear()
