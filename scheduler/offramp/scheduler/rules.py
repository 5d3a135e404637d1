"""Rules to compare with: what others do, and simple indices, each runnable wherever ours is.

A `Rule` is a policy with the limits that belong to it. Others' systems are reduced to the decision
they take in this setting (which stage runs next, who is admitted); their engines are not copied.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

from offramp.scheduler.policy import Adaptive, Policy, Ready


class Deepest:
    """The deepest stage first: a batch shrinks until it is empty, then a new one is admitted."""

    def choose(self, ready: Sequence[Ready], most_rows: int) -> int:
        """The last stage that has something ready."""
        del most_rows
        return ready[-1].stage


class Highest:
    """The stage with the highest index, the deeper one on a tie."""

    def __init__(self, index: Callable[[Ready], float]) -> None:
        self._index = index

    def choose(self, ready: Sequence[Ready], most_rows: int) -> int:
        """The stage of the highest index."""
        del most_rows
        return max(ready, key=lambda stage: (self._index(stage), stage.stage)).stage


class Stretch:
    """DVABatch's stretch: older requests wait until newcomers have filled their batch up.

    There are no more slots than rows in a batch, so that whoever runs shallow catches up.
    """

    def choose(self, ready: Sequence[Ready], most_rows: int) -> int:
        """The first stage that has something ready."""
        del most_rows
        return ready[0].stage


class CatchUp:
    """LazyBatching: newcomers catch up with the others while everyone's slack stays positive."""

    def __init__(self, target: float) -> None:
        self._target = target

    def choose(self, ready: Sequence[Ready], most_rows: int) -> int:
        """The deepest full batch, else newcomers if nobody is pressed, else whoever is."""
        full = [stage.stage for stage in ready if stage.rows >= most_rows]
        if full:
            return full[-1]
        newcomers = ready[0].seconds
        pressed = max(ready[1:] or ready, key=lambda stage: stage.oldest + _to_go(stage))
        slack = self._target - pressed.oldest - _to_go(pressed) - newcomers
        return ready[0].stage if slack > 0 else pressed.stage


class Threshold:
    """DREX: what stays at an exit is buffered until there are enough to run again at a profit.

    Enough are as many rows as the fixed cost of a step is worth, at most a whole batch.
    """

    def __init__(self, rows: float) -> None:
        self._rows = rows

    def choose(self, ready: Sequence[Ready], most_rows: int) -> int:
        """The deepest buffer that has enough, else new requests, else the deepest buffer."""
        enough = min(self._rows, most_rows)
        profitable = [stage.stage for stage in ready[1:] if stage.rows >= enough]
        if profitable:
            return profitable[-1]
        return 0 if ready[0].stage == 0 else ready[-1].stage


def _to_go(stage: Ready) -> float:
    return stage.seconds * stage.remaining


def _batch_age(stage: Ready) -> float:
    """Sum of the ages of the oldest rows of a line, as if it had been joined evenly."""
    mean = stage.age_sum / stage.waiting
    return stage.rows * (stage.oldest - stage.rows / stage.waiting * (stage.oldest - mean))


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy with its limits; `slots` as a multiple of the rows of a batch, 0 for no bound."""

    policy: Policy
    one_row: bool = False
    exits: bool = True
    batches_held: int = 0


def rules(fixed_cost: float, row_cost: float, max_rows: int, stages: int) -> dict[str, Rule]:
    """Every rule by name, for steps that cost about `fixed_cost` + rows * `row_cost` seconds."""
    full_depth = stages * (fixed_cost + row_cost * max_rows)
    return {
        "adaptive": Rule(Adaptive()),
        "no-exits": Rule(Highest(lambda s: s.rows), exits=False),
        "one-at-a-time": Rule(Deepest(), one_row=True),
        "drain": Rule(Deepest()),
        "fullest": Rule(Highest(lambda s: s.rows)),
        "stretch": Rule(Stretch(), batches_held=1),
        "catch-up": Rule(CatchUp(target=2 * full_depth)),
        "threshold": Rule(Threshold(rows=max(1.0, fixed_cost / row_cost))),
        "square-root": Rule(Highest(lambda s: s.rows / sqrt(s.reach))),
        "remaining-work": Rule(Highest(lambda s: s.rows / (s.seconds * s.remaining))),
        "oldest": Rule(Highest(lambda s: _batch_age(s) / s.seconds)),
    }
