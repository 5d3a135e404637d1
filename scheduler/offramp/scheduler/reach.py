"""How many requests come how far, learned from the exits themselves."""

MEMORY_ROWS = 500
"""Rows after which an old observation weighs half: quick to follow a change of inputs."""

FIRST_GUESS = 0.7
"""Share that stays at an exit, before anything was seen."""


class Reach:
    """Share of all requests that reach each stage; stage 0 is reached by all."""

    def __init__(self, stages: int) -> None:
        self._stay = [FIRST_GUESS] * (stages - 1)
        self._shares = [1.0] * stages
        self._update()

    def share(self, stage: int) -> float:
        """Share of all requests that reach `stage`, above 0 and at most 1."""
        return self._shares[stage]

    def observe(self, stage: int, rows: int, stayed: int) -> None:
        """Learn that of `rows` read at the exit of `stage`, `stayed` went on."""
        if rows and stage < len(self._stay):
            weight = rows / (rows + MEMORY_ROWS)
            self._stay[stage] += weight * (stayed / rows - self._stay[stage])
            self._update()

    def _update(self) -> None:
        share = 1.0
        for stage, stay in enumerate(self._stay, start=1):
            share = max(share * stay, 1e-4)
            self._shares[stage] = share
