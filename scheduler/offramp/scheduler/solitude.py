"""Whether one caller sends a request after the other and nobody else does."""

from math import inf

from offramp.scheduler.backend import Batch

BRISK = 0.004
"""Seconds from an answer to the next request within which the cores are taken to be awake."""

LONELY = 4
"""Requests in a row that met nobody, from which on the next is taken to be alone as well."""


class Solitude:
    """Sees every batch that is cut and every answer, and tells who is alone."""

    def __init__(self) -> None:
        self._answered = -inf
        self._in_a_row = 0
        self._brisk = False

    def answered(self, now: float) -> None:
        """Somebody was answered just now."""
        self._answered = now

    def of(self, batch: Batch, *, others: bool) -> bool:
        """Whether the batch's request is alone, as those before it were, and came at once."""
        if others:
            self._in_a_row, self._brisk = 0, False
        elif batch.stage == 0:
            self._brisk = self._in_a_row >= LONELY and batch.started - self._answered < BRISK
            self._in_a_row += 1
        return self._brisk
