"""What could be run of each line, and whose turn comes whatever the policy prefers."""

from collections.abc import Sequence

import fakes
import pytest

from offramp.scheduler.cost import CostModel
from offramp.scheduler.lines import LONGEST_STAY, Lines
from offramp.scheduler.policy import Adaptive, Ready
from offramp.scheduler.request import State
from offramp.scheduler.rules import Stretch
from offramp.scheduler.scheduler import Scheduler

SURE, NEEDS_ALL = (0.9, 0.9, 0.9), (0.1, 0.2, 0.3)


class Noting(Stretch):
    """Prefers the first stage, and notes how many rows a batch is said to hold."""

    def __init__(self) -> None:
        self.most_rows: list[int] = []

    def choose(self, ready: Sequence[Ready], most_rows: int) -> int:
        self.most_rows.append(most_rows)
        return super().choose(ready, most_rows)


def test_a_line_has_as_many_rows_ready_as_fit_by_their_tokens() -> None:
    core = fakes.scheduler(max_batch_tokens=512)
    lines = Lines(core.config, Adaptive(), CostModel(3))
    lines.push([fakes.request(tokens=100) for _ in range(10)])
    (ready,) = lines.ready(0.0, 64)
    assert (ready.rows, ready.waiting) == (5, 10)


def test_a_batch_that_tokens_fill_is_full() -> None:
    core = fakes.scheduler(max_batch_tokens=16)
    for _ in range(5):
        core.submit(fakes.request(), 0.0)
    batches = [fakes.cut(core, 0.0) for _ in range(2)]  # the second while the first runs
    assert [len(batch.requests) for batch in batches] == [2, 2]


def test_the_policy_is_told_how_many_of_the_usual_length_fit() -> None:
    policy = Noting()
    core = fakes.scheduler(max_batch_tokens=512, policy=policy)
    core.submit(fakes.request(tokens=100, confidences=NEEDS_ALL), 0.0)
    fakes.step(core, 0.0)
    core.submit(fakes.request(tokens=100), 1.0)
    fakes.cut(core, 1.0)
    assert policy.most_rows == [5]


def flooded(core: Scheduler, steps: range) -> None:
    """In each of these steps one comes who leaves at the first exit."""
    for at in steps:
        core.submit(fakes.request(at, confidences=SURE), at)
        fakes.step(core, at)


def test_a_stay_is_counted_from_the_step_that_gave_the_slot() -> None:
    core = fakes.scheduler(policy=Stretch(), max_batch_rows=1)
    flooded(core, range(100))
    core.submit(passed := fakes.request(99, confidences=(0.1, 0.9, 0.9)), 100)
    assert fakes.step(core, 100).requests == (passed,)
    flooded(core, range(101, 99 + LONGEST_STAY))
    assert core.slots.held == 1
    flooded(core, range(99 + LONGEST_STAY, 102 + LONGEST_STAY))
    assert core.slots.held == 0


def test_of_those_who_stay_too_long_the_first_to_come_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("offramp.scheduler.lines.LONGEST_STAY", 4)
    monkeypatch.setattr("offramp.scheduler.lines.STAY_TURNS", 0)
    core = fakes.scheduler(policy=Stretch(), max_batch_rows=1)
    core.submit(first := fakes.request(0, confidences=NEEDS_ALL), 0)
    for at in range(2):
        fakes.step(core, at)  # two stages
    core.submit(second := fakes.request(2, confidences=NEEDS_ALL), 2)
    fakes.step(core, 2)  # one stage
    flooded(core, range(3, 5))
    assert first.state is State.DONE
    assert second.state is State.WAITING


@pytest.mark.timeout(5)
def test_where_no_slot_is_free_nothing_is_cut() -> None:
    core = fakes.scheduler(workers=2, slots=1)
    for _ in range(2):
        core.submit(fakes.request(), 0.0)
    fakes.cut(core, 0.0)
    assert core.next_batch(0.0) == (None, [])
