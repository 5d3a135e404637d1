"""What the scheduler promises, each shown where it would break."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import fakes
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offramp.scheduler.backend import Batch
from offramp.scheduler.deadlines import Deadlines
from offramp.scheduler.engine import Engine
from offramp.scheduler.errors import DeadlineUnreachableError, StepFailedError
from offramp.scheduler.lines import LONGEST_STAY, LONGEST_TURN
from offramp.scheduler.policy import Adaptive, Policy, Ready
from offramp.scheduler.relief import Relief
from offramp.scheduler.request import (
    Answer,
    DeadlineAction,
    Departure,
    ExitReason,
    Priority,
    Request,
    State,
    Terms,
)
from offramp.scheduler.rules import rules
from offramp.scheduler.scheduler import Scheduler
from offramp.scheduler.simulation import simulate

CONFIDENCE = st.floats(0, 1)
TERMS = Terms(threshold=0.8, min_exit=0, max_exit=99)


def exits(trace_of: Sequence[Departure]) -> dict[Request, tuple[int, int]]:
    return {
        d.request: (d.outcome.exit, d.outcome.reading.label)
        for d in trace_of
        if isinstance(d.outcome, Answer)
    }


@settings(max_examples=60)
@given(
    of=st.lists(st.tuples(CONFIDENCE, CONFIDENCE, CONFIDENCE), min_size=2, max_size=12),
    gaps=st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=12, max_size=12),
    rows=st.integers(1, 5),
    policy=st.sampled_from([rule.policy for rule in rules(2.0, 1.0, 4, 3).values()]),
)
def test_label_and_exit_are_those_of_a_request_alone(
    of: list[tuple[float, float, float]], gaps: list[float], rows: int, policy: Policy
) -> None:
    alone: list[tuple[int, int]] = []
    for confidences in of:
        one = fakes.request(confidences=confidences)
        trace = simulate(fakes.scheduler(), [one], fakes.read, lambda _: 1.0)
        alone.append(exits(trace.departures)[one])
    now = 0.0
    together: list[Request] = []
    for confidences, gap in zip(of, gaps, strict=False):
        now += gap
        together.append(fakes.request(now, confidences=confidences))
    core = fakes.scheduler(policy=policy, max_batch_rows=rows, slots=6)
    trace = simulate(core, together, fakes.read, lambda batch: 2.0 + len(batch.requests))
    left = exits(trace.departures)
    assert [left[one] for one in together] == alone


class Spiteful:
    """Always prefers the first stage, and among the rest never the last."""

    def choose(self, ready: Sequence[Ready], most_rows: int) -> int:
        del most_rows
        return ready[0].stage


def test_nobody_stays_longer_than_the_bound_whatever_the_policy() -> None:
    core = fakes.scheduler(policy=Spiteful(), max_batch_rows=1, slots=400)
    first = fakes.request(confidences=(0.1, 0.1, 0.1))
    flood = [fakes.request(0.5 * at, confidences=(0.9, 0.9, 0.9)) for at in range(1, 600)]
    trace = simulate(core, [first, *flood], fakes.read, lambda _: 1.0)
    order = [departure.request for departure in trace.departures]
    assert LONGEST_STAY - 2 <= order.index(first) <= LONGEST_STAY
    assert len(order) == 600


def test_no_line_waits_longer_than_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offramp.scheduler.lines.LONGEST_STAY", 10**6)
    core = fakes.scheduler(policy=Spiteful(), max_batch_rows=1, slots=400)
    first = fakes.request(confidences=(0.1, 0.1, 0.1))
    flood = [fakes.request(0.5 * at, confidences=(0.9, 0.9, 0.9)) for at in range(1, 600)]
    trace = simulate(core, [first, *flood], fakes.read, lambda _: 1.0)
    order = [departure.request for departure in trace.departures]
    assert LONGEST_TURN <= order.index(first) <= 2 * (LONGEST_TURN + 3)


@pytest.mark.parametrize("ahead", [1, 2])
def test_a_line_that_fills_no_batch_gets_its_turn_with_a_batch_in_flight(ahead: int) -> None:
    core = fakes.scheduler(policy=Spiteful(), max_batch_rows=2, slots=400)
    core.submit(first := fakes.request(confidences=(0.1, 0.1, 0.1)), 0.0)
    now, flying = 0.0, list[Batch]()
    for _ in range(20 * LONGEST_TURN):
        for _ in range(4):
            core.submit(fakes.request(now, confidences=(0.9, 0.9, 0.9)), now)
        while len(flying) < ahead:
            batch, _ = core.next_batch(now)
            if batch is None:
                break
            flying.append(batch)
        now += 1.0
        done = flying.pop(0)
        core.complete(done, [fakes.read(one, done.stage) for one in done.requests], now)
        if first.state is State.DONE:
            break
    assert first.state is State.DONE


def test_urgent_deadlines_do_not_keep_a_line_from_its_turn() -> None:
    core = fakes.scheduler(max_batch_rows=1, slots=400)
    for stage in range(3):
        core.cost.observe(stage, 1, 8, 1.0)
    core.submit(first := fakes.request(confidences=(0.1, 0.1, 0.1)), 0.0)
    core.admission.correction = 0.5  # as learned where deadlines mostly go first
    steps = 0
    while first.state is not State.DONE and steps < 20 * LONGEST_TURN:
        now = float(steps)
        with suppress(DeadlineUnreachableError):
            core.submit(fakes.request(now, confidences=(0.9,) * 3, deadline=now + 1.9), now)
        batch, _ = core.next_batch(now)
        assert batch is not None
        core.complete(batch, [fakes.read(one, batch.stage) for one in batch.requests], now + 1)
        steps += 1
    assert first.state is State.DONE


@pytest.mark.parametrize("priority", Priority)
def test_neither_class_starves_the_other(priority: Priority) -> None:
    """The bound of `Lines`: a request leaves within 2 L (M / B + 1) (LONGEST_TURN + L) steps."""
    stages, rows = 3, 4
    other = Priority.BULK if priority is Priority.INTERACTIVE else Priority.INTERACTIVE
    core = fakes.scheduler(stages, max_batch_rows=rows, slots=32)
    flood = [fakes.request(0.01 * at, confidences=(0.1,) * 3, priority=other) for at in range(600)]
    one = fakes.request(3.001, confidences=(0.1,) * 3, priority=priority)
    requests = sorted([*flood, one], key=lambda request: request.arrived)
    trace = simulate(core, requests, fakes.read, lambda _: 0.05)
    patience = core.config.interactive_patience + core.config.bulk_patience
    ahead = sum(request.arrived <= one.arrived + patience for request in flood)
    (left,) = [d.outcome for d in trace.departures if d.request is one]
    assert isinstance(left, Answer)
    bound = 2 * stages * (ahead / rows + 1) * (LONGEST_TURN + stages)
    assert left.total / 0.05 <= bound
    if priority is Priority.INTERACTIVE:
        # Far sooner than that: it goes before all bulk that came in the half second before it.
        assert left.total < max(o.total for d in trace.departures for o in [d.outcome]) / 2  # type: ignore[union-attr]


def test_a_poisonous_input_fails_alone() -> None:
    core = fakes.scheduler(max_batch_rows=8)
    poison = fakes.request(confidences=(0.1, -1.0, 0.1))
    others = [fakes.request(confidences=(0.1, 0.2, 0.9)) for _ in range(7)]
    for one in (*others[:3], poison, *others[3:]):
        core.submit(one, 0.0)
    backend = fakes.FakeBackend()
    departures: list[Departure] = []
    now, steps = 0.0, 0
    while not core.idle:
        batch, left = core.next_batch(now)
        departures += left
        assert batch is not None
        now += 1.0
        steps += 1
        try:
            readings = backend.run(batch)
        except RuntimeError as error:
            departures += core.fail(batch, error)
        else:
            departures += core.complete(batch, readings, now)
    failed = [d.request for d in departures if isinstance(d.outcome, StepFailedError)]
    assert failed == [poison]
    assert len(departures) == 8
    assert steps <= 3 + 2 * 8
    assert core.slots.held == 0


def test_an_impossible_deadline_is_refused_with_the_predicted_delay() -> None:
    core = fakes.scheduler(max_batch_rows=2, max_batch_tokens=16)
    for stage in range(3):
        for rows in (1, 2):
            core.cost.observe(stage, rows, 8 * rows, 1.0)
    for _ in range(10):
        core.submit(fakes.request(), 0.0)
    with pytest.raises(DeadlineUnreachableError) as refused:
        core.submit(fakes.request(deadline=1.5), 0.0)
    assert 1.5 < refused.value.predicted < 30
    core.submit(fakes.request(deadline=60.0), 0.0)


def test_a_deadline_goes_before_those_who_can_wait() -> None:
    core = fakes.scheduler(max_batch_rows=1)
    for stage in range(3):
        core.cost.observe(stage, 1, 8, 0.01)
    patient = fakes.request(0.0, confidences=(0.9, 0.9, 0.9))
    hurried = fakes.request(0.0, confidences=(0.9, 0.9, 0.9), deadline=0.05)
    core.submit(patient, 0.0)
    core.submit(hurried, 0.0)
    batch, _ = core.next_batch(0.0)
    assert batch is not None
    assert batch.requests == (hurried,)


def test_a_deadline_goes_before_older_ones_of_its_own_line() -> None:
    core = fakes.scheduler(max_batch_rows=2)
    for stage in range(3):
        core.cost.observe(stage, 2, 16, 0.01)
    bulk = [fakes.request(0.0, priority=Priority.BULK) for _ in range(6)]
    for one in bulk:
        core.submit(one, 0.0)
    hurried = fakes.request(20.0, deadline=20.025)  # all the others have the lower rank by then
    core.submit(hurried, 20.0)
    batch, _ = core.next_batch(20.0)
    assert batch is not None
    assert batch.requests == (hurried, bulk[0])


def test_urgent_requests_do_not_hold_up_their_line_for_ever() -> None:
    core = fakes.scheduler(max_batch_rows=1)
    for stage in range(3):
        core.cost.observe(stage, 1, 8, 0.01)
    patient = fakes.request(0.0, confidences=(0.9, 0.9, 0.9), priority=Priority.BULK)
    core.submit(patient, 0.0)
    now = 10.0  # it has the lowest rank by far
    for _ in range(LONGEST_TURN + 3):
        core.submit(fakes.request(now, confidences=(0.9,) * 3, deadline=now + 0.015), now)
        batch, _ = core.next_batch(now)
        assert batch is not None
        if batch.requests == (patient,):
            break
        now += 0.01
        core.complete(batch, [fakes.read(one, 0) for one in batch.requests], now)
    else:
        pytest.fail("it was passed in every step")


def test_interactive_requests_pass_bulk_that_came_seconds_before() -> None:
    core = fakes.scheduler(max_batch_rows=4)
    for _ in range(8):
        core.submit(fakes.request(0.0, priority=Priority.BULK), 0.0)
    one = fakes.request(4.0)
    core.submit(one, 4.0)
    batch, _ = core.next_batch(4.0)
    assert batch is not None
    assert batch.requests[0] is one


def answered(core: Scheduler, now: float, seconds: float, within: float) -> bool:
    """Whether a lone request with a deadline so soon is taken, its steps taking so long."""
    one = fakes.request(now, confidences=(0.9, 0.9, 0.9), deadline=now + within)
    try:
        core.submit(one, now)
    except DeadlineUnreachableError:
        return False
    batch, left = core.next_batch(now)
    assert batch is not None
    assert not left
    core.complete(batch, [fakes.read(one, 0)], now + seconds)
    return True


def test_a_slow_spell_does_not_refuse_short_deadlines_for_ever() -> None:
    core = fakes.scheduler()
    for at in range(60):
        assert answered(core, float(at), 0.1 if at > 20 else 0.002, within=10.0)
    assert not answered(core, 59.2, 0.002, within=0.02)  # believed as long as it is fresh
    assert all(answered(core, 61 + at / 10, 0.002, within=0.02) for at in range(100))


def test_a_deadline_that_is_out_of_reach_is_tried_once_a_second_at_most() -> None:
    core = fakes.scheduler()
    for at in range(20):
        assert answered(core, float(at), 0.1, within=10.0)
    tried = [answered(core, 30 + at / 10, 0.1, within=0.02) for at in range(50)]
    assert 4 <= sum(tried) <= 5
    core.submit(fakes.request(40.0), 40.0)  # who is held already must not wait for a trial
    with pytest.raises(DeadlineUnreachableError):
        core.submit(fakes.request(40.0, deadline=40.02), 40.0)


def test_a_deadline_that_no_step_need_keep_hides_none_behind_it() -> None:
    deadlines = Deadlines()
    runs, has_one, fails = (
        fakes.request(deadline=deadline, action=action)
        for deadline, action in (
            (1.0, DeadlineAction.FAIL),
            (2.0, DeadlineAction.BEST_ANSWER),
            (3.0, DeadlineAction.FAIL),
        )
    )
    runs.state, has_one.state, fails.state = State.RUNNING, State.WAITING, State.WAITING
    for one in (runs, has_one, fails):
        deadlines.add(one)
    assert deadlines.most_urgent is fails
    has_one.state = State.QUEUED
    assert deadlines.most_urgent is has_one
    assert deadlines.waiting_before(4.0) == [has_one, fails]


def two_workers() -> Scheduler:
    """A step of 8 tokens takes a second, one of 80 ten; what is ahead mostly goes behind."""
    core = fakes.scheduler(workers=2, max_batch_rows=1)
    for stage in range(3):
        core.cost.observe(stage, 1, 8, 1.0)
        core.cost.observe(stage, 1, 80, 10.0)
    core.admission.correction = 0.05
    return core


def started(core: Scheduler, one: Request, now: float) -> Batch:
    core.submit(one, now)
    batch, left = core.next_batch(now)
    assert batch is not None
    assert (batch.requests, left) == ((one,), [])
    return batch


def test_a_deadline_is_judged_by_the_worker_that_is_free_first() -> None:
    core = two_workers()
    started(core, fakes.request(), 0.0)
    started(core, fakes.request(tokens=80), 0.0)
    core.submit(fakes.request(deadline=5.0), 0.0)  # from 1 to 2
    with pytest.raises(DeadlineUnreachableError):
        core.submit(fakes.request(deadline=1.5), 0.0)


def test_a_long_step_drops_nobody_whom_another_worker_can_take() -> None:
    core = two_workers()
    short = started(core, fakes.request(confidences=(0.9, 0.9, 0.9)), 0.0)
    long, waits = fakes.request(tokens=80), fakes.request(0.1, deadline=5.0)
    core.submit(long, 0.0)
    core.submit(waits, 0.1)
    batch, left = core.next_batch(0.1)
    assert batch is not None
    assert (batch.requests, left) == ((long,), [])
    core.complete(short, [fakes.read(short.requests[0], 0)], 1.0)
    batch, left = core.next_batch(1.0)
    assert batch is not None
    assert (batch.requests, left) == ((waits,), [])


def test_a_long_step_drops_nobody_while_another_worker_is_free() -> None:
    core = two_workers()
    long, waits = fakes.request(tokens=80), fakes.request(0.1, deadline=5.0)
    core.submit(long, 0.0)
    core.submit(waits, 0.1)
    found = [core.next_batch(0.1) for _ in range(2)]
    assert [(batch.requests, left) for batch, left in found if batch] == [
        ((long,), []),
        ((waits,), []),
    ]


def test_the_expired_and_the_cancelled_cost_no_step() -> None:
    core = fakes.scheduler(max_batch_rows=1)
    expired, cancelled = fakes.request(deadline=1.0), fakes.request()
    core.submit(expired, 0.0)
    core.submit(cancelled, 0.0)
    core.cancel(cancelled)
    batch, departures = core.next_batch(2.0)
    assert batch is None
    assert [d.request for d in departures] == [expired]


def test_relief_lowers_to_the_floor_returns_and_marks() -> None:
    relief = Relief((0.7, 0.75), delay=1.0, hold=2.0)
    seen: list[float] = []
    for second in range(12):
        relief.observe(5.0, float(second))
        seen.append(relief.threshold(TERMS))
    assert min(seen) == 0.7
    assert seen[0] == 0.8
    for second in range(12, 24):
        relief.observe(0.0, float(second))
    assert relief.level == 0
    assert relief.threshold(TERMS) == 0.8
    assert not Relief().active


def test_relief_ends_in_an_idle_time() -> None:
    relief = Relief((0.7, 0.75), delay=1.0, hold=2.0)
    for second in range(12):
        relief.observe(5.0, float(second))
    relief.observe(0.0, 12.0)
    assert relief.level == 2
    relief.observe(0.5, 60.0)  # the first to come after that
    assert relief.level == 0


@pytest.mark.parametrize("ahead", [0, 1])
def test_one_request_after_another_is_no_overload_however_slow_the_model(ahead: int) -> None:
    """Also where the engine asks for a batch ahead while another runs."""
    relief = Relief([0.6], delay=0.5)
    core: Scheduler = fakes.scheduler(relief=relief)
    for stage in range(3):
        core.cost.observe(stage, 1, 8, 1.0)
    relief.observe(1.0, 0.0)
    relief.observe(1.0, 1.0)
    assert relief.level == 1
    now = 1.0
    for _ in range(3):
        core.submit(fakes.request(confidences=(0.9, 0.9, 0.9)), now)
        batch, _ = core.next_batch(now)
        assert batch is not None
        for _ in range(ahead):
            assert core.next_batch(now)[0] is None
        now += 1.0
        core.complete(batch, [fakes.read(batch.requests[0], 0)], now)
    assert relief.level == 0


def test_whoever_waits_behind_a_long_step_makes_an_overload() -> None:
    relief = Relief([0.6], delay=0.5)
    core: Scheduler = fakes.scheduler(relief=relief, max_batch_rows=1)
    for stage in range(3):
        core.cost.observe(stage, 1, 8, 0.45)
    now = 0.0
    for _ in range(3):
        for _ in range(2):
            core.submit(fakes.request(confidences=(0.9, 0.9, 0.9)), now)
        batch, _ = core.next_batch(now)
        assert batch is not None
        now += 0.45
        core.complete(batch, [fakes.read(batch.requests[0], 0)], now)
    assert relief.level == 1


def test_an_answer_by_relief_is_marked() -> None:
    relief = Relief([0.6], delay=0.5)
    core: Scheduler = fakes.scheduler(relief=relief)
    relief.observe(1.0, 0.0)
    relief.observe(1.0, 1.0)
    one = fakes.request(confidences=(0.65, 0.9, 0.9))
    core.submit(one, 1.0)
    batch, _ = core.next_batch(1.0)
    assert batch is not None
    (left,) = core.complete(batch, [fakes.read(one, 0)], 2.0)
    assert isinstance(left.outcome, Answer)
    assert (left.outcome.reason, left.outcome.threshold) == (ExitReason.OVERLOAD, 0.6)


def test_an_exit_where_nobody_may_leave_is_not_read() -> None:
    core = fakes.scheduler()
    one = fakes.request(confidences=(0.9, 0.9, 0.9), min_exit=1)
    core.submit(one, 0.0)
    batch, _ = core.next_batch(0.0)
    assert batch is not None
    assert not batch.reads
    assert core.complete(batch, [], 1.0) == []
    batch, _ = core.next_batch(1.0)
    assert batch is not None
    assert batch.reads
    (left,) = core.complete(batch, [fakes.read(one, 1)], 2.0)
    assert isinstance(left.outcome, Answer)
    assert left.outcome.exit == 1


def test_a_reading_that_costs_more_than_it_saves_is_skipped_now_and_then_tried() -> None:
    core = fakes.scheduler(exact_exits=False, max_batch_rows=4, slots=64)
    for stage in range(3):
        for rows in (1, 4):
            core.cost.observe(stage, rows, 8 * rows, 0.01)
        core.cost.observe_reading(stage, 1.0)
    requests = [fakes.request(0.1 * at, confidences=(0.9, 0.9, 0.9)) for at in range(200)]
    trace = simulate(core, requests, fakes.read, lambda _: 0.01)
    first = [batch.reads for batch in trace.batches if batch.stage == 0]
    assert 0 < sum(first) < len(first) / 4
    assert len(trace.departures) == 200


@pytest.mark.parametrize(("workers", "steps"), [(1, 2), (2, 1), (3, 4)])
async def test_steps_at_the_same_time_answer_as_steps_in_turn(workers: int, steps: int) -> None:
    answers: list[list[tuple[int, float]]] = []
    for count, ahead in ((1, 1), (workers, steps)):
        with ThreadPoolExecutor(count) as executor:
            core = fakes.scheduler(max_batch_rows=4, slots=64, workers=count)
            engine = Engine(core, fakes.FakeBackend(), executor, steps_in_flight=ahead)
            futures = [
                engine.submit((0.1 * (at % 10), 0.2 * (at % 5), 0.5), 8, TERMS, 0.0)
                for at in range(100)
            ]
            engine.stop()
            await engine.run()
        outcomes = [future.result() for future in futures]
        answers.append([(one.exit, one.reading.confidence) for one in outcomes])
        assert core.slots.held == 0
    assert answers[0] == answers[1]


def test_only_a_full_batch_is_cut_while_another_runs() -> None:
    core = fakes.scheduler(max_batch_rows=2)
    for _ in range(3):
        core.submit(fakes.request(), 0.0)
    first, _ = core.next_batch(0.0)
    second, _ = core.next_batch(0.0)
    assert first is not None
    assert second is None
    core.submit(fakes.request(), 0.0)
    second, _ = core.next_batch(0.0)
    assert second is not None
    assert len(second.requests) == 2
    core.complete(first, [fakes.read(one, 0) for one in first.requests], 1.0)
    core.complete(second, [fakes.read(one, 0) for one in second.requests], 2.0)
    assert core.cost.predict(0, 2, 16) == pytest.approx(1.0)


def test_free_workers_share_what_waits_if_that_is_quicker() -> None:
    sizes: dict[float, list[int]] = {}
    for fixed in (0.0, 100.0):
        core = fakes.scheduler(max_batch_rows=8, slots=64, workers=2)
        for rows in (1, 2, 4, 8):
            core.cost.observe(0, rows, 8 * rows, fixed + rows)
        for _ in range(6):
            core.submit(fakes.request(), 0.0)
        cut = [core.next_batch(0.0)[0], core.next_batch(0.0)[0]]
        sizes[fixed] = [len(batch.requests) for batch in cut if batch is not None]
    assert sizes == {0.0: [3, 3], 100.0: [6]}


def test_a_queue_is_worked_off_by_all_workers() -> None:
    predicted: list[float] = []
    for workers in (1, 2):
        core = fakes.scheduler(workers=workers)
        for rows in (1, 2, 4):
            for stage in range(3):
                core.cost.observe(stage, rows, 8 * rows, float(rows))
        for _ in range(6):
            core.submit(fakes.request(), 0.0)
        predicted.append(core.predicted_delay())
    assert predicted[1] == pytest.approx(predicted[0] / 2)


def test_the_policy_follows_the_backlog() -> None:
    def ready(stage: int, rows: int, remaining: float, waiting: int) -> Ready:
        return Ready(stage, rows, 64.0 + rows, 1.0, remaining, waiting, waiting, 1.0, 1.0)

    short = [ready(0, 20, 3.0, 20), ready(5, 12, 1.0, 12)]
    long = [ready(0, 128, 3.0, 900), ready(5, 40, 1.0, 40)]
    assert Adaptive().choose(short, 128) == 5
    assert Adaptive().choose(long, 128) == 0
