"""The queue: how much it holds, who is first in it, and how long it is said to take."""

import fakes
import pytest

from offramp.scheduler.admission import LEAST, MEMORY
from offramp.scheduler.errors import QueueFullError
from offramp.scheduler.reach import FIRST_GUESS

SECOND = {8: 1.0}
"""A step takes a second."""


def test_a_queue_is_full_by_tokens_as_by_requests() -> None:
    core = fakes.scheduler(max_queue_tokens=16)
    for _ in range(2):
        core.submit(fakes.request(), 0.0)
    with pytest.raises(QueueFullError):
        core.submit(fakes.request(), 0.0)


def test_there_is_room_to_spare_in_three_quarters_of_its_tokens() -> None:
    core = fakes.scheduler(max_queue_tokens=32)
    spare: list[bool] = []
    for _ in range(4):
        spare.append(core.spare_places > 0)
        core.submit(fakes.request(), 0.0)
    assert spare == [True, True, True, False]


def test_who_arrived_first_goes_first_however_long_it_took_to_tokenize() -> None:
    core = fakes.scheduler(max_batch_rows=1)
    core.submit(fakes.request(1.0), 1.0)
    core.submit(first := fakes.request(0.5), 1.2)
    assert fakes.cut(core, 1.2).requests == (first,)


def test_a_delay_is_told_in_steps_of_as_many_as_fit_of_the_length_met() -> None:
    core = fakes.scheduler(stages=1, max_batch_rows=4)
    for rows in (4, 1):
        core.cost.observe(0, rows, 8 * rows, 1.0)  # whatever it holds
    for _ in range(8):
        core.submit(fakes.request(), 0.0)
    assert core.predicted_delay() == pytest.approx(2.0, rel=0.01)


def test_a_delay_has_all_that_is_before_the_exit_in_it() -> None:
    core = fakes.teach(fakes.scheduler(max_batch_rows=1), SECOND)
    core.submit(fakes.request(confidences=(0.1, 0.2, 0.3)), 0.0)
    fakes.step(core, 0.0)
    for _ in range(2):
        core.submit(fakes.request(1.0), 1.0)
    second_on = 1 + FIRST_GUESS
    queued = 1 + core.reach.stay(0) * second_on
    assert core.predicted_delay() == pytest.approx(2 * queued + second_on, rel=1e-3)


def test_a_delay_follows_what_steps_turn_out_to_cost() -> None:
    core = fakes.teach(fakes.scheduler(stages=1, max_batch_rows=1), {8: 10.0})
    core.submit(fakes.request(), 0.0)
    for at in range(200):
        batch = fakes.cut(core, 0.1 * at)
        core.submit(fakes.request(0.1 * at), 0.1 * at)
        fakes.complete(core, batch, 0.1 * (at + 1))
    core.admission.correction = 1.0
    assert core.predicted_delay() < 1.0


def test_a_step_cut_ahead_ends_after_the_one_that_runs() -> None:
    core = fakes.teach(fakes.scheduler(max_batch_rows=1), SECOND)
    for _ in range(3):
        core.submit(fakes.request(), 0.0)
    fakes.cut(core, 0.0)
    fakes.cut(core, 0.0)
    assert core.admission.busy_until == pytest.approx(2.0)


def test_a_wait_ends_when_the_first_step_begins() -> None:
    core = fakes.teach(fakes.scheduler(stages=2, max_batch_rows=1), SECOND)
    for _ in range(2):
        core.submit(fakes.request(confidences=(0.9, 0.9)), 0.0)
    for now in (0.0, 1.0):
        fakes.step(core, now)
    share = 1 / (1 + FIRST_GUESS)  # the second waited a second, and that of both stages was said
    assert core.admission.correction == pytest.approx(1 - MEMORY * (1 - share), abs=1e-4)


def test_a_correction_keeps_what_comes_true_and_has_a_least() -> None:
    admission = fakes.scheduler().admission
    admission.correction = 0.2
    admission.learn(1.0, 1.0)
    assert admission.correction == pytest.approx(0.2)
    admission.learn(1.0, 1.5)
    assert admission.correction == pytest.approx(0.2 + MEMORY * 0.1)
    for _ in range(500):
        admission.learn(1.0, 0.0)
    assert admission.correction == pytest.approx(LEAST)
