"""Which stage runs next: a pure function of what is ready.

A step of stage k that takes n requests further is worth n, and costs t_k(n) seconds in which all
the others wait. By efficiency alone, n / t, the fullest batch goes first: right when the backlog
is long, for then every second saved is saved by all. By the requests' own latency a step is worth
n / (t R_k), where R_k is the work that a request of stage k still has before it on average: as in
shortest-remaining-time-first, work that is nearly done goes first. That is right when the backlog
is short. The optimum of instances small enough to be solved goes from the one to the other as the
backlog grows, and so does `Adaptive`:

    index = n (1 + AGE (age / oldest age)^AGE_POWER) / (t^GAMMA R_k^theta),
    theta = THETA / (1 + (N / (KAPPA B))^POWER) + LEAST_THETA,

N the requests that wait anywhere and B the most rows of a batch. The age of the first in line
breaks near ties for whoever waited longest, which shortens the tail at no cost in the mean.
The constants were fitted once, in simulation, over fixed costs from half a row to 64 rows, loads
from .2 to .95, two sets of exit shares and batches of 8 to 128 rows; see docs/scheduler.md.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

THETA, LEAST_THETA, KAPPA, POWER = 2.2, 0.1, 0.92, 2.42
GAMMA = 0.85
AGE, AGE_POWER = 0.034, 0.18
INTERACTIVE_WEIGHT = 8.0
"""What an interactive request counts in a stage's index, where a bulk request counts one."""


class Ready(NamedTuple):
    """What could run now of one stage: a batch, and the line it is cut from."""

    stage: int
    rows: int
    """Requests that fit one batch."""
    seconds: float
    """What a step of these is predicted to take."""
    reach: float
    """Share of all requests that come this far."""
    remaining: float
    """Expected work from this stage to the exit, this stage included, in any unit."""
    waiting: int
    """Requests in the line."""
    interactive: int
    """Those of them that are interactive."""
    oldest: float
    """Seconds since the first in line arrived."""
    age_sum: float
    """Sum of the line's ages, in seconds."""


class Policy(Protocol):
    """Chooses among the stages that have something ready; never idles while one has."""

    def choose(self, ready: Sequence[Ready], most_rows: int) -> int:
        """The stage to run, of a non-empty list in order of stages; batches hold `most_rows`."""
        ...


class Adaptive:
    """Nearly finished work first while the backlog is short, full batches first when it is long."""

    def choose(self, ready: Sequence[Ready], most_rows: int) -> int:
        """The stage with the highest index, the deeper one on a tie."""
        waiting = sum(stage.waiting for stage in ready)
        theta = THETA / (1 + (waiting / (KAPPA * most_rows)) ** POWER) + LEAST_THETA
        eldest = max(stage.oldest for stage in ready) or 1.0
        best, chosen = -1.0, 0
        for stage in ready:
            worth = stage.rows * (1 + AGE * (max(stage.oldest, 0.0) / eldest) ** AGE_POWER)
            worth *= 1 + (INTERACTIVE_WEIGHT - 1) * stage.interactive / stage.waiting
            index = worth / (stage.seconds**GAMMA * stage.remaining**theta)
            if index >= best:
                best, chosen = index, stage.stage
        return chosen
