"""How far requests come is learned from those who were read and still wanted an answer."""

import fakes
import pytest

from offramp.scheduler.reach import FIRST_GUESS, MEMORY_ROWS, Reach

GOES_ON, LEAVES = (0.1, 0.9, 0.9), (0.9, 0.9, 0.9)


def test_a_share_is_learned_by_rows_and_never_nothing() -> None:
    reach = Reach(3)
    assert reach.share(1) == reach.stay(0) == FIRST_GUESS
    reach.observe(0, MEMORY_ROWS, MEMORY_ROWS // 2)
    assert reach.stay(0) == pytest.approx((FIRST_GUESS + 0.5) / 2)
    reach.observe(0, 10**9, 0)
    assert reach.share(1) == pytest.approx(1e-4)
    assert reach.remaining(0) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("stays", [True, False])
def test_who_goes_on_and_who_leaves_is_learned(*, stays: bool) -> None:
    core = fakes.scheduler()
    for at in range(200):
        core.submit(one := fakes.request(at, confidences=GOES_ON if stays else LEAVES), at)
        fakes.step(core, at, 0.5)
        core.cancel(one)
    assert (core.reach.stay(0) > FIRST_GUESS) is stays


def test_who_gives_up_in_a_step_did_not_leave_at_its_exit() -> None:
    core = fakes.scheduler()
    for at in range(200):
        stays, gives_up = (fakes.request(at, confidences=GOES_ON) for _ in range(2))
        for one in (stays, gives_up):
            core.submit(one, at)
        batch = fakes.cut(core, at)
        core.cancel(gives_up)
        fakes.complete(core, batch, at + 0.5)
        core.cancel(stays)
    assert core.reach.stay(0) > FIRST_GUESS


def test_work_is_what_the_steps_of_each_stage_take() -> None:
    core = fakes.scheduler(stages=2, max_batch_rows=1)
    for stage, seconds in ((0, 1.0), (1, 4.0)):
        core.cost.observe(stage, 1, 8, seconds)
    core.submit(fakes.request(confidences=(0.9, 0.9)), 0.0)
    fakes.cut(core, 0.0)
    assert core.reach.remaining(0) == pytest.approx(0.25 + FIRST_GUESS)
    assert core.reach.remaining(1) == 1.0
