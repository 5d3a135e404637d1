"""Steps that run beside each other, and where the time of a request went."""

import fakes
import pytest

from offramp.scheduler.request import Answer, Departure
from offramp.scheduler.rules import Deepest
from offramp.scheduler.scheduler import Scheduler

SURE = (0.9, 0.9, 0.9)


def two_workers() -> Scheduler:
    """A step of 8 tokens takes a second, one of 80 ten."""
    return fakes.teach(fakes.scheduler(workers=2, max_batch_rows=1), {8: 1.0, 80: 10.0})


def times(left: list[Departure]) -> tuple[float, float, float]:
    """Seconds in lines, in steps and in all, of the only one who left."""
    (outcome,) = (departure.outcome for departure in left)
    assert isinstance(outcome, Answer)
    return outcome.queue, outcome.compute, outcome.total


def test_time_is_spent_before_the_queue_in_lines_and_in_steps() -> None:
    core = fakes.scheduler()
    core.submit(fakes.request(0.0, confidences=(0.1, 0.9, 0.9)), 1.0)
    fakes.step(core, 3.0, 4.0)
    left = fakes.complete(core, fakes.cut(core, 8.0), 16.0)
    assert times(left) == (2.0 + 1.0, 4.0 + 8.0, 16.0)


def test_steps_beside_each_other_take_their_own_time() -> None:
    core = two_workers()
    for confidences in ((0.1, 0.9, 0.9), SURE):
        core.submit(fakes.request(confidences=confidences), 0.0)
    first, second = (fakes.cut(core, 0.0) for _ in range(2))
    assert fakes.complete(core, first, 1.0) == []
    assert times(fakes.complete(core, second, 1.5)) == (0.0, 1.5, 1.5)


def test_the_next_step_due_is_the_one_that_ends_first() -> None:
    core = two_workers()
    for tokens in (80, 8):
        core.submit(fakes.request(tokens=tokens), 0.0)
        fakes.cut(core, 0.0)
    assert core.due == pytest.approx(1.0, rel=0.01)


def test_workers_that_find_a_line_of_their_own_take_no_share_of_another() -> None:
    core = fakes.scheduler(policy=Deepest(), max_batch_rows=8, workers=2)
    for stage in range(3):
        for rows in (1, 2, 4, 8):
            core.cost.observe(stage, rows, 8 * rows, float(rows))
    for _ in range(4):
        core.submit(fakes.request(confidences=(0.1, 0.2, 0.3)), 0.0)
    for batch in [fakes.cut(core, 0.0) for _ in range(2)]:
        fakes.complete(core, batch, 2.0)
    for _ in range(4):
        core.submit(fakes.request(2.0), 2.0)
    batches = [fakes.cut(core, 2.0) for _ in range(2)]
    assert [(batch.stage, len(batch.requests)) for batch in batches] == [(1, 4), (0, 4)]
