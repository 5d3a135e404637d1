"""The scheduler in virtual time: who leaves where, when and why."""

from math import nan

import fakes
import pytest

from offramp.scheduler.backend import Batch
from offramp.scheduler.errors import (
    DeadlineExceededError,
    DeadlineUnreachableError,
    DrainingError,
    QueueFullError,
    StepFailedError,
)
from offramp.scheduler.reading import Reading
from offramp.scheduler.request import Answer, DeadlineAction, ExitReason, Priority
from offramp.scheduler.simulation import simulate


def second(_: Batch) -> float:
    return 1.0


def test_each_leaves_at_its_own_exit() -> None:
    requests = [
        fakes.request(confidences=(0.9, 0.9, 0.9)),
        fakes.request(confidences=(0.1, 0.8, 0.9)),
        fakes.request(confidences=(0.1, 0.2, 0.3)),
        fakes.request(confidences=(0.1, 0.2, 0.3), max_exit=1),
        fakes.request(confidences=(0.9, 0.9, 0.9), min_exit=1),
    ]
    trace = simulate(fakes.scheduler(), requests, fakes.read, second)
    left = {d.request: d.outcome for d in trace.departures}
    outcomes = [left[one] for one in requests]
    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert [(o.exit, o.reason) for o in outcomes if isinstance(o, Answer)] == [
        (0, ExitReason.CONFIDENT),
        (1, ExitReason.CONFIDENT),
        (2, ExitReason.FINAL),
        (1, ExitReason.LIMIT),
        (1, ExitReason.CONFIDENT),
    ]


def test_as_many_batches_run_at_the_same_time_as_there_are_workers() -> None:
    arrivals = (0.0, 0.0, 0.0, 0.0, 0.25, 5.0)
    left: list[list[float]] = []
    for workers in (1, 2, 3):
        core = fakes.scheduler(stages=1, max_batch_rows=1, workers=workers)
        requests = [fakes.request(at, confidences=(0.9,)) for at in arrivals]
        trace = simulate(core, requests, fakes.read, second)
        assert max(_overlap(trace.batches)) == workers
        outcome = {d.request: d.outcome for d in trace.departures}
        answers = [outcome[one] for one in requests]
        left.append([one.total for one in answers if isinstance(one, Answer)])
    assert left == [[1, 2, 3, 4, 4.75, 1], [1, 1, 2, 2, 2.75, 1], [1, 1, 1, 2, 1.75, 1]]


def _overlap(batches: list[Batch]) -> list[int]:
    """How many one-second batches run as each begins."""
    return [sum(0 <= one.started - other.started < 1 for other in batches) for one in batches]


def test_freed_slots_are_refilled_between_stages() -> None:
    requests = [fakes.request(confidences=(0.9, 0.9, 0.9)) for _ in range(2)]
    requests += [fakes.request(confidences=(0.1, 0.1, 0.1)) for _ in range(2)]
    requests += [fakes.request(confidences=(0.9, 0.9, 0.9)) for _ in range(2)]
    trace = simulate(fakes.scheduler(slots=4), requests, fakes.read, second)
    assert [(b.stage, len(b.requests)) for b in trace.batches][:2] == [(0, 4), (1, 2)]
    assert (0, 2) in [(b.stage, len(b.requests)) for b in trace.batches]
    assert len(trace.departures) == 6


def test_a_batch_keeps_its_token_budget_and_short_ones_pass_a_long_one() -> None:
    requests = [fakes.request(tokens=tokens) for tokens in (60, 60, 30, 500)]
    core = fakes.scheduler(max_batch_tokens=100)
    trace = simulate(core, requests, fakes.read, second)
    assert [r.tokens for r in trace.batches[0].requests] == [60, 30]
    assert all(b.tokens <= 100 or len(b.requests) == 1 for b in trace.batches)
    assert len(trace.departures) == 4


def test_interactive_goes_before_bulk_of_the_same_age_and_bulk_is_not_starved() -> None:
    core = fakes.scheduler(stages=1, max_batch_rows=1)
    bulk = fakes.request(confidences=(0.9,), priority=Priority.BULK)
    stream = [fakes.request(0.1 * i, confidences=(0.9,)) for i in range(20)]
    trace = simulate(core, [bulk, *stream], fakes.read, lambda _: 0.1)
    order = [d.request for d in trace.departures]
    assert 0 < order.index(bulk) < 10


def test_best_answer_before_the_deadline_or_failure_if_asked() -> None:
    core = fakes.scheduler()
    for stage in range(3):
        core.cost.observe(stage, 1, 8, 1.0)
    best = fakes.request(confidences=(0.1, 0.2, 0.3), deadline=1.5)
    fail = fakes.request(confidences=(0.1, 0.2, 0.3), deadline=1.5, action=DeadlineAction.FAIL)
    core.submit(best, 0.0)
    batch, _ = core.next_batch(0.0)
    assert batch is not None
    assert not core.complete(batch, [fakes.read(best, 0)], 1.0)
    nothing, (departure,) = core.next_batch(1.0)
    assert nothing is None
    assert isinstance(departure.outcome, Answer)
    assert (departure.outcome.exit, departure.outcome.reason) == (0, ExitReason.DEADLINE)
    core.submit(fail, 0.0)
    batch, _ = core.next_batch(0.0)
    assert batch is not None
    core.complete(batch, [fakes.read(fail, 0)], 1.0)
    _, (departure,) = core.next_batch(1.0)
    assert isinstance(departure.outcome, DeadlineExceededError)
    assert core.idle
    assert core.slots.held == 0


def test_refusals() -> None:
    core = fakes.scheduler(max_queue_requests=1)
    core.cost.observe(0, 1, 8, 1.0)
    with pytest.raises(DeadlineUnreachableError):
        core.submit(fakes.request(deadline=0.5), 0.0)
    core.submit(fakes.request(), 0.0)
    with pytest.raises(QueueFullError) as full:
        core.submit(fakes.request(), 0.0)
    assert full.value.retry_after > 0
    core.drain()
    with pytest.raises(DrainingError):
        core.submit(fakes.request(), 0.0)


def test_cancelling_frees_the_slot_at_the_stage_boundary() -> None:
    core = fakes.scheduler()
    running = fakes.request()
    core.submit(running, 0.0)
    batch, _ = core.next_batch(0.0)
    assert batch is not None
    core.cancel(running)
    assert core.slots.held == 1
    assert core.complete(batch, [fakes.read(running, 0)], 1.0) == []
    assert core.slots.held == 0
    assert core.idle


def test_a_failed_step_fails_its_own_requests() -> None:
    core = fakes.scheduler(max_batch_rows=1)
    first, other = fakes.request(), fakes.request()
    core.submit(first, 0.0)
    core.submit(other, 0.0)
    batch, _ = core.next_batch(0.0)
    assert batch is not None
    (departure,) = core.fail(batch, RuntimeError("poison"))
    assert departure.request is first
    assert isinstance(departure.outcome, StepFailedError)
    assert core.queued == 1


def test_an_undefined_reading_is_never_an_answer() -> None:
    core = fakes.scheduler()
    undefined, other = fakes.request(), fakes.request(threshold=0.5)
    for request in (undefined, other):
        core.submit(request, 0.0)
    batch, _ = core.next_batch(0.0)
    assert batch is not None
    read = [
        Reading(0, nan, (nan, nan)) if r is undefined else fakes.read(r, 0) for r in batch.requests
    ]
    outcomes = {d.request: d.outcome for d in core.complete(batch, read, 1.0)}
    failure = outcomes[undefined]
    assert isinstance(failure, StepFailedError)
    assert isinstance(failure.__cause__, ArithmeticError)
    assert isinstance(outcomes[other], Answer)
    assert core.idle
