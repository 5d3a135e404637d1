"""Steps that an engine ran, as a cost to simulate with.

What a step takes is the *mean* of the steps of its stage and about its size, times the *pace* of
the machine, which other processes, other virtual machines and the clock of the cores change, and
which is played back spell by spell as it was recorded: a queue grows in the slow spells and never
gets back what the quick ones save. A stall counts with its whole spell, for it comes by the clock
and not by the step.
"""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from offramp.scheduler.backend import Batch
from offramp.scheduler.cost import CostModel

SPELL = 0.6
"""Seconds over which the pace is taken."""


class Step(NamedTuple):
    """A step as the engine saw it, from the cut of its batch at `at` until its readings came."""

    at: float
    stage: int
    rows: int
    tokens: int
    seconds: float


class Recording:
    """The steps of one or more runs; raises ValueError if there are none."""

    def __init__(self, runs: Sequence[Sequence[Step]], stages: int) -> None:
        self._cost = CostModel(stages, memory=0.0)
        for run in runs:
            for step in run:
                self._cost.observe(step.stage, step.rows, step.tokens, step.seconds)
        self._pace: list[float] = []
        for run in runs:
            for spell in _spells(run):
                mean = sum(self.mean(step.stage, step.rows, step.tokens) for step in spell)
                seconds = sum(step.seconds for step in spell)
                self._pace.append(seconds / mean if mean else self._pace[-1])
        if not self._pace:
            raise ValueError("nothing was recorded; record some steps first")

    def mean(self, stage: int, rows: int, tokens: int) -> float:
        """Mean seconds of a step; of a stage never recorded, 0."""
        return self._cost.predict(stage, rows, tokens)

    def draw(self, seed: int) -> Callable[[Batch], float]:
        """Seconds of batches of the simulated time 0 and on, the same for the same seed.

        The pace is played from a place drawn, round and round.
        """
        offset = random.Random(seed).randrange(len(self._pace))

        def seconds(batch: Batch) -> float:
            pace = self._pace[(offset + int(batch.started / SPELL)) % len(self._pace)]
            return pace * self.mean(batch.stage, len(batch.requests), batch.tokens)

        return seconds


def _spells(run: Sequence[Step]) -> list[list[Step]]:
    """The steps of a run by the whole spell in which they began; the first one is not empty."""
    if not run:
        return []
    began = min(step.at for step in run)
    ended = max(step.at + step.seconds for step in run)
    whole = max(1, int((ended - began) / SPELL))
    spells: list[list[Step]] = [[] for _ in range(whole)]
    for step in run:
        spells[min(int((step.at - began) / SPELL), whole - 1)].append(step)
    return spells
