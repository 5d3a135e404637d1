"""Which stage runs next: a pure function of what is ready."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Ready:
    """What could run now of one stage.

    `rows` fit one batch; `reach` is the share of all requests that come this far.
    """

    stage: int
    rows: int
    reach: float


class Policy(Protocol):
    """Chooses among the stages that have something ready; never idles while one has."""

    def choose(self, ready: Sequence[Ready]) -> int:
        """The stage to run, of a non-empty list in order of stages."""
        ...


class SquareRoot:
    """Most rows over the square root of the stage's reach, the deeper stage on a tie.

    Rows over reach alone would drain, rows alone would starve the deep stages; the root between
    them is good from low load to saturation whether a step's fixed cost or its rows dominate.
    """

    def choose(self, ready: Sequence[Ready]) -> int:
        """The stage with the highest index."""
        best = max(ready, key=lambda stage: (stage.rows / sqrt(stage.reach), stage.stage))
        return best.stage
