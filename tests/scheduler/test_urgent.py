"""A request whose deadline can't wait is run in time, with the company that it can afford."""

import fakes
import pytest

from offramp.scheduler.line import Line
from offramp.scheduler.request import Priority, Request
from offramp.scheduler.scheduler import Scheduler

ALONE, A_ROW = 0.002, 0.001
"""Seconds of a step, and of each of its rows."""


def taught() -> Scheduler:
    core = fakes.scheduler(deadline_margin=0, max_batch_rows=32)
    for stage in range(3):
        for rows in (1, 2, 4, 8, 16, 32):
            core.cost.observe(stage, rows, 8 * rows, ALONE + A_ROW * rows)
    return core


def backlog(core: Scheduler, others: int, deadline: float) -> Request:
    """One that can't wait, and so many more important ones that can."""
    urgent = fakes.request(priority=Priority.BULK, deadline=deadline)
    core.submit(urgent, 0.0)
    for _ in range(others):
        core.submit(fakes.request(), 0.0)
    return urgent


@pytest.mark.parametrize(
    ("deadline", "company"), [(0.0035, 0), (0.0111, 8), (0.0191, 16), (0.04, 31)]
)
def test_it_has_no_more_company_than_its_deadline_allows(deadline: float, company: int) -> None:
    core = taught()
    urgent = backlog(core, 31, deadline)
    batch, left = core.next_batch(0.0)
    assert batch is not None
    assert not left
    assert urgent in batch.requests
    assert len(batch.requests) == 1 + company
    assert core.queued == 31 - company


def test_ahead_of_a_step_that_runs_it_counts_from_the_end_of_that() -> None:
    core = taught()
    for _ in range(32):
        core.submit(fakes.request(), 0.0)
    runs, _ = core.next_batch(0.0)
    assert runs is not None
    urgent = backlog(core, 31, runs.predicted + 0.0101)
    batch, left = core.next_batch(0.0)
    assert batch is not None
    assert not left
    assert urgent in batch.requests
    assert len(batch.requests) == 8


def test_those_left_behind_keep_their_order() -> None:
    line = Line()
    company = [fakes.request() for _ in range(6)]  # of equal rank
    urgent = fakes.request()
    line.push([*company, urgent])
    assert line.take(32, 512, urgent, lambda rows, _: rows <= 3) == [urgent, *company[:2]]
    assert line.take(32, 512) == company[2:]


def test_those_who_made_room_go_next_and_none_is_lost() -> None:
    core = taught()
    urgent = backlog(core, 31, 0.0035)
    now, answered = 0.0, 0
    while not core.idle:
        batch, left = core.next_batch(now)
        assert batch is not None
        now += batch.predicted
        done = core.complete(batch, [fakes.read(one, batch.stage) for one in batch.requests], now)
        answered += len(left) + len(done)
    assert answered == 32
    assert core.slots.held == 0
    assert urgent.read_at >= 0
