"""Requests by rank, lowest first, that may leave from anywhere."""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from itertools import count

from offramp.scheduler.request import Request

Entry = tuple[float, int, Request]
"""Rank, order of arrival among equals, request."""


class RequestHeap:
    """A binary heap with removal.

    A request that is removed is only marked; its entry goes when it comes up, or all at once when
    the marked outnumber the rest. So every operation is O(log n), averaged.
    """

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._removed: set[Request] = set()
        self._sequence = count()

    def __len__(self) -> int:
        return len(self._entries) - len(self._removed)

    def push(self, request: Request, rank: float) -> None:
        """Add a request behind those of equal rank."""
        heappush(self._entries, (rank, next(self._sequence), request))

    def push_all(self, requests: Iterable[Request]) -> None:
        """Add requests by their own ranks, each behind those of equal rank."""
        entries, sequence = self._entries, self._sequence
        for request in requests:
            heappush(entries, (request.rank, next(sequence), request))

    def first(self) -> Entry | None:
        """The entry of lowest rank, which stays; None if there is none."""
        while self._entries and self._removed and self._entries[0][2] in self._removed:
            self._removed.remove(heappop(self._entries)[2])
        return self._entries[0] if self._entries else None

    def pop(self, below: float | None = None) -> Entry | None:
        """Take the entry of lowest rank off; None if there is none, or none ranked `below`."""
        entries, removed = self._entries, self._removed
        while entries:
            if removed and entries[0][2] in removed:
                removed.remove(heappop(entries)[2])
            elif below is not None and entries[0][0] >= below:
                break
            else:
                return heappop(entries)
        return None

    def restore(self, entry: Entry) -> None:
        """Put back an entry that was taken off, in the place it had."""
        heappush(self._entries, entry)

    def remove(self, request: Request) -> None:
        """Take a request out from anywhere."""
        self._removed.add(request)
        if len(self._removed) > len(self._entries) // 2:
            self._entries = [entry for entry in self._entries if entry[2] not in self._removed]
            heapify(self._entries)
            self._removed.clear()
