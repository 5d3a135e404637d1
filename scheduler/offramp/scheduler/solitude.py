"""Whether one caller sends a request after the other and nobody else does."""

from math import inf

from offramp.scheduler.backend import Batch

BRISK = 0.004
"""Seconds from an answer to the next request within which the cores are taken to be awake."""

LONELY = 8
"""Requests in a row that met nobody and came at once, from which on the next is taken to be alone.
A late one begins the row anew.

Requests of many callers seldom come so, and they are better not taken for one caller's: a step that
runs where requests arrive delays those that arrive meanwhile.
"""


class Solitude:
    """Sees every batch that is cut and every answer, and tells who is alone."""

    def __init__(self) -> None:
        self._answered = -inf
        self._in_a_row = 0

    def answered(self, now: float) -> None:
        """Somebody was answered just now."""
        self._answered = now

    def of(self, batch: Batch, *, others: bool) -> bool:
        """Whether the batch's request is alone, as those before it were, and came at once."""
        if others:
            self._in_a_row = 0
        elif batch.stage == 0:
            brisk = batch.started - self._answered < BRISK
            self._in_a_row = self._in_a_row + 1 if brisk else 0
        return self._in_a_row > LONELY
