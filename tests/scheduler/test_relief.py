"""Relief keeps its pace on the way down and up, and whose threshold it lowers is marked."""

import fakes

from offramp.scheduler.relief import Relief
from offramp.scheduler.request import Answer, ExitReason, Terms

TERMS = Terms(threshold=0.8, min_exit=0, max_exit=99)


def overloaded(until: int) -> tuple[Relief, list[float]]:
    """Relief with a hold of two seconds, and its threshold at each second of an overload."""
    relief = Relief((0.5, 0.6, 0.7), delay=1.0, hold=2.0)
    thresholds: list[float] = []
    for second in range(until):
        relief.observe(5.0, float(second))
        thresholds.append(relief.threshold(TERMS))
    return relief, thresholds


def test_thresholds_fall_by_one_a_hold() -> None:
    _, thresholds = overloaded(9)
    assert thresholds == [0.8, 0.8, 0.7, 0.7, 0.6, 0.6, 0.5, 0.5, 0.5]


def test_thresholds_rise_by_one_a_hold_however_seldom_anybody_looks() -> None:
    relief, _ = overloaded(12)
    levels: list[int] = []
    for now in (20.0, 23.0, 24.0, 25.0, 26.0):  # two, four and six seconds after the first
        relief.observe(0.0, now)
        levels.append(relief.level)
    assert levels == [3, 2, 1, 1, 0]


def test_an_overload_is_more_than_the_delay_that_is_allowed() -> None:
    relief = Relief((0.5,), delay=1.0)
    for second in range(5):
        relief.observe(1.0, float(second))
    assert relief.level == 0


def test_a_reading_as_sure_as_relief_asks_leaves_by_it() -> None:
    relief = Relief((0.6,), delay=0.5)
    relief.observe(1.0, 0.0)
    relief.observe(1.0, 1.0)
    core = fakes.scheduler(relief=relief)
    core.submit(fakes.request(confidences=(0.6, 0.9, 0.9)), 1.0)
    (left,) = fakes.complete(core, fakes.cut(core, 1.0), 2.0)
    assert isinstance(left.outcome, Answer)
    assert left.outcome.reason is ExitReason.OVERLOAD
