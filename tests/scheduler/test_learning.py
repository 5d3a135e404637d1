"""What is learned of costs and delays: soon enough, from the right steps, and not for ever."""

from collections.abc import Callable
from itertools import product

import fakes
import pytest

from offramp.scheduler.backend import Batch
from offramp.scheduler.cost import CostModel
from offramp.scheduler.experiment import Machine, line_cost
from offramp.scheduler.lines import EXPLORED, RELEARN, Lines
from offramp.scheduler.policy import Adaptive
from offramp.scheduler.scheduler import Scheduler
from offramp.scheduler.simulation import simulate
from offramp.scheduler.workload import Workload, read

FIXED = 64.0
"""Cost of a step whatever its size, in rows."""


def test_sizes_taught_smallest_first_are_known_at_once() -> None:
    model = CostModel(1)
    for rows in (1, 64, 128):
        for _ in range(2):
            model.observe(0, rows, rows, FIXED + rows)
    for rows in (1, 64, 128):
        assert model.predict(0, rows, rows) == pytest.approx(FIXED + rows, rel=0.01)
    assert model.best_tokens(0, 128) == 128


def test_the_first_step_between_two_sizes_is_no_outlier() -> None:
    model = CostModel(1)
    for _ in range(5):
        for rows in (1, 64):
            model.observe(0, rows, rows, FIXED + rows)
    expected = model.predict(0, 16, 16)
    model.observe(0, 16, 16, 1e-6)
    assert model.predict(0, 16, 16) >= expected / 2
    model.observe(0, 512, 512, 1e-6)
    assert model.predict(0, 512, 512) >= (FIXED + 64) / 2


@pytest.mark.parametrize("correction", [0.1, 0.5, 1.0, 2.0])
def test_a_wait_for_a_batch_or_more_is_learned_whatever_was_learned_before(
    correction: float,
) -> None:
    admission = backlogged().admission
    admission.price()
    admission.correction = correction
    batch = correction * 64 * admission.rate(0)
    admission.learn(0.9 * batch, 100.0)
    assert admission.correction == correction
    admission.learn(1.1 * batch, 100.0)
    assert admission.correction > correction


def test_now_and_then_steps_of_any_size_are_tried() -> None:
    cost = CostModel(1)
    for _ in range(12):
        cost.observe(0, 8, 8, 8.0)
        cost.observe(0, 64, 64, 640.0)  # as it was once
    core = fakes.scheduler(stages=1, max_batch_rows=64, max_batch_tokens=64)
    lines = Lines(core.config, Adaptive(), cost)
    sizes: list[int] = []
    for _ in range(2 * RELEARN * EXPLORED):
        lines.push([fakes.request(tokens=1) for _ in range(64 - lines.of[0].waiting)])
        lines.stepped()
        sizes.append(len(lines.take(0, 64)))
    assert set(sizes) == {8, 64}
    assert sizes.count(64) == 2 * RELEARN


def backlogged() -> Scheduler:
    """One worker, 33 requests, 8 of which fit a batch, that all leave at their first exit."""
    core = fakes.scheduler(stages=1, slots=64, max_batch_rows=8, max_batch_tokens=64)
    for rows in (1, 4, 8):
        core.cost.observe(0, rows, 8 * rows, 1.0 + 0.1 * rows)
    for _ in range(33):
        core.submit(fakes.request(confidences=(0.9,)), 0.0)
    return core


def test_waits_for_a_running_step_say_nothing_of_a_queue() -> None:
    machine = Machine(line_cost(FIXED, 1.0), 3, 128, 128)
    shares = (0.5, 0.25, 0.25)
    core = fakes.scheduler(slots=512, max_batch_rows=128, max_batch_tokens=128)
    for stage, rows in product(range(3), (1, 64, 128)):
        core.cost.observe(stage, rows, rows, machine.cost(stage, rows, rows))
    light = Workload(rate=0.2 * machine.capacity(shares), shares=shares, requests=2000)
    simulate(core, light.generate(), read, seconds_of(machine))
    assert core.admission.correction < 1.5


def seconds_of(machine: Machine) -> Callable[[Batch], float]:
    return lambda batch: machine.cost(batch.stage, len(batch.requests), batch.tokens)


def test_a_queue_that_takes_longer_than_its_work_is_learned() -> None:
    core = backlogged()
    before = core.admission.correction
    batch, _ = core.next_batch(0.0)
    assert batch is not None
    late = fakes.request(0.0, confidences=(0.9,))
    core.submit(late, 0.0)
    now = 0.0
    while late not in batch.requests:
        now += 10 * batch.predicted
        core.complete(batch, [fakes.read(one, 0) for one in batch.requests], now)
        batch, _ = core.next_batch(now)
        assert batch is not None
    core.complete(batch, [fakes.read(one, 0) for one in batch.requests], now + 1.0)
    assert core.admission.correction > before


@pytest.mark.parametrize("learn", [True, False])
def test_what_a_step_took_is_learned_unless_it_ran_elsewhere(*, learn: bool) -> None:
    core = fakes.teach(fakes.scheduler(), {8: 1.0})
    core.submit(fakes.request(), 0.0)
    fakes.complete(core, fakes.cut(core, 0.0), 1.5, learn=learn)
    assert (core.cost.predict(0, 1, 8) > 1.0) is learn
