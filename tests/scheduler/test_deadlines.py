"""Deadlines: who is taken, who goes first for theirs, and how soon a missed one is told."""

import fakes
import pytest

from offramp.scheduler.errors import DeadlineExceededError, DeadlineUnreachableError
from offramp.scheduler.request import DeadlineAction, Departure, Priority, Request
from offramp.scheduler.rules import Stretch
from offramp.scheduler.scheduler import Scheduler

NEEDS_ALL, SURE = (0.1, 0.2, 0.3), (0.9, 0.9, 0.9)
SECOND = {8: 1.0}
"""A step takes a second."""
BY_LENGTH = {8: 1.0, 80: 10.0}
"""A step takes a second of a short request, ten of a long one."""


def who(left: list[Departure]) -> list[Request]:
    return [departure.request for departure in left]


def one_row(seconds: dict[int, float]) -> Scheduler:
    """Prefers the first stage, one request at a time."""
    return fakes.teach(fakes.scheduler(policy=Stretch(), max_batch_rows=1), seconds)


def test_a_deadline_is_judged_by_what_is_left_of_it() -> None:
    core = fakes.teach(fakes.scheduler(), SECOND)
    with pytest.raises(DeadlineUnreachableError) as refused:
        core.submit(fakes.request(0.0, deadline=1.5), 1.0)
    assert refused.value.remaining == pytest.approx(0.5)


def test_a_deadline_that_is_past_is_never_tried() -> None:
    core = fakes.teach(fakes.scheduler(), SECOND)
    for now in (10.0, 20.0, 30.0):
        with pytest.raises(DeadlineUnreachableError):
            core.submit(fakes.request(0.0, deadline=9.0), now)


def test_bulk_waits_behind_all_and_interactive_requests_behind_their_own() -> None:
    core = fakes.teach(fakes.scheduler(), SECOND)
    for _ in range(20):
        core.submit(fakes.request(priority=Priority.BULK), 0.0)
    with pytest.raises(DeadlineUnreachableError):
        core.submit(fakes.request(deadline=3.0, priority=Priority.BULK), 0.0)
    core.submit(fakes.request(deadline=3.0), 0.0)


def test_who_waits_is_told_of_its_deadline_while_a_step_is_overdue() -> None:
    core = fakes.teach(fakes.scheduler(), SECOND)
    core.submit(fakes.request(), 0.0)
    fakes.cut(core, 0.0)
    core.submit(waits := fakes.request(deadline=5.0), 0.0)
    batch, left = core.next_batch(6.0)
    assert batch is None
    assert who(left) == [waits]
    assert isinstance(left[0].outcome, DeadlineExceededError)


def test_who_waits_is_told_at_once_that_the_step_before_it_takes_too_long() -> None:
    core = fakes.teach(fakes.scheduler(slots=1, max_batch_rows=1), BY_LENGTH)
    core.submit(long := fakes.request(tokens=80, confidences=NEEDS_ALL), 0.0)
    fakes.step(core, 0.0, 10.0)
    core.admission.correction = 0.05
    core.submit(waits := fakes.request(10.0, deadline=15.0), 10.0)  # and the only slot is taken
    batch, left = core.next_batch(10.0)
    assert batch is not None
    assert (batch.stage, batch.requests) == (1, (long,))
    assert who(left) == [waits]


def test_a_step_cut_ahead_is_judged_from_when_it_can_begin() -> None:
    core = fakes.teach(fakes.scheduler(max_batch_rows=1), BY_LENGTH)
    core.submit(fakes.request(tokens=80), 0.0)
    fakes.cut(core, 0.0)
    core.submit(waits := fakes.request(deadline=12.0), 0.0)
    for _ in range(80):
        core.cost.observe(0, 1, 8, 3.0)  # it would end in time if it began now
    batch, left = core.next_batch(0.0)
    assert batch is None
    assert who(left) == [waits]


def test_an_answer_must_leave_its_margin_before_the_deadline() -> None:
    core = fakes.teach(fakes.scheduler(), SECOND)
    core.submit(waits := fakes.request(deadline=5.0), 0.0)
    batch, left = core.next_batch(4.0 - core.config.deadline_margin / 2)
    assert batch is None
    assert who(left) == [waits]
    assert isinstance(left[0].outcome, DeadlineUnreachableError)
    assert left[0].outcome.predicted > left[0].outcome.remaining > 0


def test_a_step_is_predicted_without_those_whom_it_lets_go() -> None:
    core = fakes.teach(fakes.scheduler(), BY_LENGTH)
    core.submit(hurried := fakes.request(deadline=100.0), 0.0)
    core.submit(long := fakes.request(tokens=80), 0.0)
    batch, left = core.next_batch(99.5)
    assert batch is not None
    assert (batch.requests, who(left)) == ((long,), [hurried])
    assert batch.predicted == pytest.approx(10.0, rel=0.01)


def between_stages(deadline: float, action: DeadlineAction) -> tuple[Scheduler, Request, Request]:
    """One with a deadline that has run one stage, and a newcomer whom the policy prefers."""
    core = one_row(SECOND)
    hurried = fakes.request(confidences=NEEDS_ALL, deadline=deadline, action=action)
    core.submit(hurried, 0.0)
    fakes.step(core, 0.0)
    core.submit(newcomer := fakes.request(1.0), 1.0)
    return core, hurried, newcomer


def test_between_stages_only_who_has_nothing_to_answer_with_goes_before_others() -> None:
    core, hurried, _ = between_stages(3.5, DeadlineAction.FAIL)
    assert fakes.cut(core, 2.0).requests == (hurried,)
    core, _, newcomer = between_stages(3.5, DeadlineAction.BEST_ANSWER)
    batch, _ = core.next_batch(2.0)
    assert batch is not None
    assert batch.requests == (newcomer,)


def test_nobody_is_passed_by_one_whose_answer_would_not_leave_in_time() -> None:
    core, hurried, newcomer = between_stages(9.0, DeadlineAction.FAIL)
    batch, left = core.next_batch(8.0 - core.config.deadline_margin / 2)
    assert batch is not None
    assert (batch.requests, who(left)) == ((newcomer,), [hurried])


def test_how_urgent_one_is_depends_on_the_step_of_its_own_stage() -> None:
    core = one_row(SECOND)
    for stage in (1, 2):
        for _ in range(60):
            core.cost.observe(stage, 1, 8, 5.0)
    hurried = fakes.request(confidences=NEEDS_ALL, deadline=8.0, action=DeadlineAction.FAIL)
    core.submit(hurried, 0.0)
    fakes.step(core, 0.0)
    core.submit(fakes.request(1.0, confidences=SURE), 1.0)
    assert fakes.cut(core, 2.5).requests == (hurried,)  # until 7.5, or from 3.5 until 8.5
