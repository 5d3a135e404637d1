"""Requests that follow each other at once are one caller's, who is alone; others are not."""

import pytest
from fakes import request

from offramp.scheduler.backend import Batch
from offramp.scheduler.solitude import BRISK, LONELY, Solitude

STEP = 0.002


def seen(solitude: Solitude, pauses: list[float], others: frozenset[int] = frozenset()) -> bool:
    """Whether the last of requests is alone, each so long after the answer to the one before."""
    now, alone = 0.0, False
    for at, pause in enumerate(pauses):
        now += pause
        alone = solitude.of(Batch(0, (request(),), now), others=at in others)
        now += STEP
        solitude.answered(now)
    return alone


def test_a_row_of_requests_that_come_at_once_is_one_callers() -> None:
    assert seen(Solitude(), [BRISK / 2] * (LONELY + 2))


@pytest.mark.parametrize("late", range(1, LONELY + 2))
def test_one_that_comes_late_ends_the_row(late: int) -> None:
    pauses = [BRISK / 2] * (LONELY + 2)
    pauses[late] = 2 * BRISK
    assert not seen(Solitude(), pauses)


@pytest.mark.parametrize("met", range(1, LONELY + 2))
def test_one_that_meets_another_ends_the_row(met: int) -> None:
    assert not seen(Solitude(), [BRISK / 2] * (LONELY + 2), frozenset({met}))


def test_later_stages_go_on_as_the_first_began() -> None:
    solitude = Solitude()
    assert seen(solitude, [BRISK / 2] * (LONELY + 2))
    assert solitude.of(Batch(1, (request(),), 99.0), others=False)
    assert not solitude.of(Batch(2, (request(),), 99.0), others=True)
