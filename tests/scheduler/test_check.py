"""An exit is read if somebody must or may leave there, and if that is worth what it costs."""

from math import inf

import fakes
import pytest

from offramp.scheduler.request import DeadlineAction

BEST, FAIL = DeadlineAction.BEST_ANSWER, DeadlineAction.FAIL


@pytest.mark.parametrize(
    ("deadline", "action", "reads"),
    [
        (100.0, BEST, [True, False, True]),
        (100.0, FAIL, [False, False, True]),
        (inf, BEST, [False, False, True]),
    ],
)
def test_one_reading_is_made_for_an_answer_before_the_deadline(
    deadline: float, action: DeadlineAction, reads: list[bool]
) -> None:
    core = fakes.scheduler()
    core.submit(fakes.request(min_exit=2, deadline=deadline, action=action), 0.0)
    assert [fakes.step(core, float(at)).reads for at in range(3)] == reads


@pytest.mark.parametrize(("max_exit", "reads"), [(0, True), (99, False)])
def test_a_threshold_that_no_score_reaches_reads_only_where_one_must_leave(
    max_exit: int, *, reads: bool
) -> None:
    core = fakes.scheduler()
    core.submit(fakes.request(threshold=1.5, max_exit=max_exit), 0.0)
    assert fakes.cut(core, 0.0).reads is reads


@pytest.mark.parametrize(("costs", "reads"), [(0.9, True), (1.5, False)])
def test_a_reading_is_worth_the_steps_of_those_who_leave(costs: float, *, reads: bool) -> None:
    core = fakes.scheduler(stages=2, exact_exits=False, max_batch_rows=4)
    for stage, seconds in ((0, 40.0), (1, 4.0)):
        core.cost.observe(stage, 1, 8, seconds)
    core.cost.observe_reading(0, costs)
    core.submit(fakes.request(), 0.0)
    assert fakes.cut(core, 0.0).reads is reads  # three of ten leave: 1.2 of four seconds
