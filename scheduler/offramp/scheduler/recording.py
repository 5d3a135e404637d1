"""Steps that an engine ran, as a cost to simulate with.

What a step takes has three parts: the *mean* of the steps of its stage and about its size; times
the *pace* of the machine, which other processes, other virtual machines and the clock of the cores
change for tenths of a second and more, and which is played back as it was recorded; and the
*jitter*, seconds drawn from the recorded steps nearest in size. A mean alone is too kind: a queue
grows by the slow spells and never gets back what the quick ones save.
"""

import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from operator import itemgetter
from statistics import median
from typing import NamedTuple

from offramp.scheduler.backend import Batch
from offramp.scheduler.cost import CostModel

SPELL = 0.3
"""Seconds over which the pace is a median."""

ALIKE = 100
"""Recorded steps nearest in size among which the jitter is drawn."""

LEAST = 0.5
"""A step takes at least this share of its mean at the pace."""


class Step(NamedTuple):
    """A step as the engine saw it, from the cut of its batch at `at` until its readings came."""

    at: float
    stage: int
    rows: int
    tokens: int
    seconds: float


class Recording:
    """The steps of one or more runs."""

    def __init__(self, runs: Sequence[Sequence[Step]], stages: int) -> None:
        self._cost = CostModel(stages, memory=0.0)
        for run in runs:
            for step in run:
                self._cost.observe(step.stage, step.rows, step.tokens, step.seconds)
        self._pace: list[float] = []
        jitter: list[tuple[int, float]] = []
        for run in runs:
            for spell in _spells(run):
                means = [self.mean(step.stage, step.rows, step.tokens) for step in spell]
                if means:
                    pace = median(
                        step.seconds / mean for step, mean in zip(spell, means, strict=True)
                    )
                    jitter += [
                        (step.tokens, step.seconds - mean * pace)
                        for step, mean in zip(spell, means, strict=True)
                    ]
                    self._pace.append(pace)
                else:
                    self._pace.append(self._pace[-1])
        if not jitter:
            raise ValueError("nothing was recorded; record some steps first")
        jitter.sort(key=itemgetter(0))
        self._sizes = [tokens for tokens, _ in jitter]
        self._jitter = [ratio for _, ratio in jitter]

    def mean(self, stage: int, rows: int, tokens: int) -> float:
        """Mean seconds of a step; of a stage never recorded, 0."""
        return self._cost.predict(stage, rows, tokens)

    def draw(self, seed: int) -> Callable[[Batch], float]:
        """Seconds of batches of the simulated time 0 and on, the same for the same seed."""
        chance = random.Random(seed)
        offset = chance.randrange(len(self._pace))

        def seconds(batch: Batch) -> float:
            tokens = batch.tokens
            spell = offset + int(batch.started / SPELL)
            nearest = (bisect_left(self._sizes, tokens) + bisect_right(self._sizes, tokens)) // 2
            first = max(0, min(nearest - ALIKE // 2, len(self._sizes) - ALIKE))
            last = min(first + ALIKE, len(self._sizes))
            steady = self.mean(batch.stage, len(batch.requests), tokens)
            steady *= self._pace[spell % len(self._pace)]
            return max(steady + self._jitter[chance.randrange(first, last)], LEAST * steady)

        return seconds


def _spells(run: Sequence[Step]) -> list[list[Step]]:
    """The steps of a run by the spell in which they began; the first spell is not empty."""
    if not run:
        return []
    began = min(step.at for step in run)
    last = max(step.at for step in run)
    spells: list[list[Step]] = [[] for _ in range(int((last - began) / SPELL) + 1)]
    for step in run:
        spells[int((step.at - began) / SPELL)].append(step)
    return spells
