"""How many requests come how far and what they still have to do, learned from the exits."""

from collections.abc import Sequence

MEMORY_ROWS = 500
"""Rows after which an old observation weighs half: quick to follow a change of inputs."""

FIRST_GUESS = 0.7
"""Share that stays at an exit, before anything was seen."""


class Reach:
    """Share of all requests that reach each stage; stage 0 is reached by all."""

    def __init__(self, stages: int) -> None:
        self._stay = [FIRST_GUESS] * (stages - 1)
        self._work = [1.0] * stages
        self._shares = [1.0] * stages
        self._remaining = [1.0] * stages
        self._stale = True

    def share(self, stage: int) -> float:
        """Share of all requests that reach `stage`, above 0 and at most 1."""
        self._update()
        return self._shares[stage]

    def stay(self, stage: int) -> float:
        """Share of those read at the exit of `stage` that go on; 0 at the last."""
        return self._stay[stage] if stage < len(self._stay) else 0.0

    def remaining(self, stage: int) -> float:
        """Work that a request of `stage` still has before it on average, this stage included."""
        self._update()
        return self._remaining[stage]

    def weigh(self, work: Sequence[float]) -> None:
        """Set the work of a request at each stage, in any unit; 1 each before that."""
        self._work = list(work)
        self._stale = True

    def observe(self, stage: int, rows: int, stayed: int) -> None:
        """Learn that of `rows` read at the exit of `stage`, `stayed` went on."""
        if rows and stage < len(self._stay):
            weight = rows / (rows + MEMORY_ROWS)
            self._stay[stage] += weight * (stayed / rows - self._stay[stage])
            self._stale = True

    def _update(self) -> None:
        """Multiply and add up what was learned since anybody asked; most steps are no choice."""
        if not self._stale:
            return
        self._stale = False
        share = 1.0
        for stage, stay in enumerate(self._stay, start=1):
            share = max(share * stay, 1e-4)
            self._shares[stage] = share
        ahead = 0.0
        for stage in reversed(range(len(self._work))):
            ahead = self._work[stage] + self.stay(stage) * ahead
            self._remaining[stage] = ahead
