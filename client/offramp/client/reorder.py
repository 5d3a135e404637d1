"""Answers of a stream, in the order in which their inputs were given or as they come."""

from collections.abc import Iterator

from offramp.client.answer import Answer
from offramp.client.errors import OfframpError

Outcome = Answer | OfframpError


class Reorder:
    """Holds outcomes back until all before them have come; at most a window of them."""

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._next = 0
        self._held: dict[int, Outcome] = {}

    def release(self, index: int, outcome: Outcome) -> Iterator[Outcome]:
        """Take the outcome of input `index`; give back whatever may go on now."""
        if not self._ordered:
            yield outcome
            return
        self._held[index] = outcome
        while self._next in self._held:
            yield self._held.pop(self._next)
            self._next += 1
