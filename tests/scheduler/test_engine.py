"""The engine on a real event loop with a fake backend: what it tells and whom it runs first."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf

import pytest
from fakes import FakeBackend, Where, request, scheduler

from offramp.scheduler.backend import Batch
from offramp.scheduler.engine import Engine
from offramp.scheduler.errors import QueueFullError, SchedulerError, StepFailedError
from offramp.scheduler.flights import Lane
from offramp.scheduler.observer import NullObserver
from offramp.scheduler.reading import Reading
from offramp.scheduler.request import Answer, Departure, Request, State, Terms
from offramp.scheduler.solitude import LONELY

TERMS = Terms(threshold=0.8, min_exit=0, max_exit=99)


class Notes(NullObserver):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, object]] = []

    def stepped(self, batch: Batch, seconds: float) -> None:
        assert seconds >= 0
        self.lines.append(("stepped", batch.stage))

    def failed(self, batch: Batch, error: Exception) -> None:
        self.lines.append(("failed", str(error)))

    def departed(self, departure: Departure) -> None:
        self.lines.append(("departed", type(departure.outcome)))

    def refused(self, request: Request, error: SchedulerError) -> None:
        self.lines.append(("refused", type(error)))

    def cancelled(self, request: Request, state: State) -> None:
        self.lines.append(("cancelled", state))


async def test_the_observer_is_told_of_everything_that_happens() -> None:
    notes = Notes()
    with ThreadPoolExecutor(1) as executor:
        engine = Engine(scheduler(max_queue_requests=2), FakeBackend(), executor, notes)
        answered = engine.submit((0.5, 0.9, 0.9), 8, TERMS, 0.0)
        given_up = engine.submit((0.5, 0.9, 0.9), 8, TERMS, 0.0)
        with pytest.raises(QueueFullError):
            engine.submit((0.5, 0.9, 0.9), 8, TERMS, 0.0)
        given_up.cancel()
        task = asyncio.create_task(engine.run())
        assert (await answered).exit == 1
        with pytest.raises(StepFailedError):
            await engine.submit((-1.0, 0.9, 0.9), 8, TERMS, 0.0)
        engine.stop()
        await task
    assert notes.lines == [
        ("refused", QueueFullError),
        ("cancelled", State.QUEUED),
        ("stepped", 0),
        ("stepped", 1),
        ("departed", Answer),
        ("failed", "poison"),
        ("departed", StepFailedError),
    ]


class Twofold(FakeBackend):
    """Reads everything twice."""

    def run(self, batch: Batch) -> Sequence[Reading]:
        """As a FakeBackend, two for one."""
        return [*super().run(batch)] * 2


async def test_a_step_with_other_than_a_reading_each_failed() -> None:
    notes = Notes()
    with ThreadPoolExecutor(1) as executor:
        engine = Engine(scheduler(), Twofold(), executor, notes)
        task = asyncio.create_task(engine.run())
        with pytest.raises(StepFailedError):
            await engine.submit((0.5, 0.9, 0.9), 8, TERMS, 0.0)
        engine.stop()
        await task
    assert notes.lines == [
        ("failed", "2 readings of 1 requests, not one each"),
        ("departed", StepFailedError),
    ]


async def test_who_waits_for_room_leaves_some_to_who_does_not() -> None:
    with ThreadPoolExecutor(1) as executor:
        core = scheduler(max_queue_requests=8)
        engine = Engine(core, FakeBackend(), executor)

        async def bulk() -> Answer:
            await engine.room()
            return await engine.submit((0.9, 0.9, 0.9), 8, TERMS, 0.0)

        waiting = [asyncio.create_task(bulk()) for _ in range(20)]
        await asyncio.sleep(0)
        assert core.queued == 6
        hurried = [engine.submit((0.9, 0.9, 0.9), 8, TERMS, 0.0) for _ in range(2)]
        with pytest.raises(QueueFullError):
            engine.submit((0.9, 0.9, 0.9), 8, TERMS, 0.0)
        engine_task = asyncio.create_task(engine.run())
        assert len(await asyncio.gather(*waiting, *hurried)) == 22
        engine.stop()
        await engine_task


@pytest.mark.parametrize(("at_once", "prefix"), [(0.0, "far"), (1.0, "MainThread")])
async def test_a_step_shorter_than_a_handover_runs_on_the_loop(at_once: float, prefix: str) -> None:
    core = scheduler()
    for stage in range(3):
        core.cost.observe(stage, 1, 8, 0.01)
    backend = Where()
    with ThreadPoolExecutor(1, "far") as executor:
        engine = Engine(core, backend, executor, at_once=at_once)
        futures = [engine.submit((0.5, 0.9, 0.9), 8, TERMS, 0.0)]
        poisonous = engine.submit((0.5, -1.0, 0.9), 8, TERMS, 0.0)
        engine.stop()
        await engine.run()
    assert [future.result().exit for future in futures] == [1]
    assert isinstance(poisonous.exception(), StepFailedError)
    assert all(thread.startswith(prefix) for thread in backend.threads)


@pytest.mark.parametrize(("brisk", "last"), [(inf, "MainThread"), (0.0, "far")])
async def test_one_request_after_the_other_runs_on_the_loop(
    brisk: float, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offramp.scheduler.solitude.BRISK", brisk)
    before = LONELY + 1  # the first came after no answer
    core = scheduler()
    for stage in range(3):
        core.cost.observe(stage, 1, 8, 0.01)
    backend = Where()
    with ThreadPoolExecutor(1, "far") as executor:
        engine = Engine(core, backend, executor, alone_at_once=1.0)
        running = asyncio.ensure_future(engine.run())
        for _ in range(before + 1):
            await engine.submit((0.5, 0.9, 0.9), 8, TERMS, 0.0)
        await asyncio.gather(*(engine.submit((0.9, 0.9, 0.9), 8, TERMS, 0.0) for _ in range(2)))
        await engine.submit((0.9, 0.9, 0.9), 8, TERMS, 0.0)
        engine.stop()
        await running
    where = ["far" if thread.startswith("far") else thread for thread in backend.threads]
    assert where[: 2 * before] == ["far"] * 2 * before
    assert where[2 * before : 2 * before + 2] == [last, last]
    assert set(where[2 * before + 2 :]) == {"far"}


class Order(FakeBackend):
    """Adds a request of the first lane while the second step of the idle lane runs."""

    def __init__(self) -> None:
        super().__init__()
        self.arrive: Callable[[], None] = lambda: None

    def run(self, batch: Batch) -> Sequence[Reading]:
        if len(self.batches) == 1:
            self.arrive()
        return super().run(batch)


async def test_the_idle_lane_runs_only_when_nothing_else_is_ready() -> None:
    backend = Order()
    loop = asyncio.get_running_loop()
    done: list[Departure] = []
    with ThreadPoolExecutor(1) as executor:
        idle = Lane(scheduler(slots=1, first_slot=64), NullObserver())
        engine = Engine(scheduler(slots=64), backend, executor, idle=idle)
        finished = asyncio.Event()

        def leave(departure: Departure) -> None:
            done.append(departure)
            finished.set()

        arrived = asyncio.Event()
        answers: list[asyncio.Future[Answer]] = []

        def arrive() -> None:
            answers.append(engine.submit((0.5, 0.5, 0.5), 8, TERMS, 0.0))
            arrived.set()

        def arrive_while_running() -> None:
            loop.call_soon_threadsafe(arrive)
            asyncio.run_coroutine_threadsafe(arrived.wait(), loop).result()

        backend.arrive = arrive_while_running
        shadow = request(confidences=(0.9, 0.9, 0.9), threshold=inf)
        shadow.deliver = leave
        idle.scheduler.submit(shadow, 0.0)
        task = asyncio.create_task(engine.run())
        await finished.wait()
        engine.stop()
        await task
    rows = [(batch.stage, batch.requests[0] is shadow) for batch in backend.batches]
    assert rows == [(0, True), (1, True), (0, False), (1, False), (2, False), (2, True)]
    assert answers[0].result().exit == 2
    assert isinstance(done[0].outcome, Answer)


async def test_after_a_step_at_once_the_idle_lane_has_its_turn() -> None:
    idle, core = Lane(scheduler(slots=1, first_slot=64), NullObserver()), scheduler(slots=64)
    for stage in range(3):
        core.cost.observe(stage, 1, 8, 0.01)
        idle.scheduler.cost.observe(stage, 1, 8, 0.01)
    done: asyncio.Future[Departure] = asyncio.get_running_loop().create_future()
    shadow = request(confidences=(0.9, 0.9, 0.9), threshold=inf)
    shadow.deliver = done.set_result
    with ThreadPoolExecutor(1) as executor:
        engine = Engine(core, FakeBackend(), executor, idle=idle, at_once=1.0)
        running = asyncio.ensure_future(engine.run())
        answer = engine.submit((0.9, 0.9, 0.9), 8, TERMS, 0.0)
        idle.scheduler.submit(shadow, 0.0)
        assert (await answer).exit == 0
        assert isinstance((await done).outcome, Answer)
        assert (await engine.submit((0.9, 0.9, 0.9), 8, TERMS, 0.0)).exit == 0
        engine.stop()
        await running


async def test_stopping_does_not_wait_for_the_idle_lane() -> None:
    backend = FakeBackend()
    with ThreadPoolExecutor(1) as executor:
        idle = Lane(scheduler(), NullObserver())
        engine = Engine(scheduler(), backend, executor, idle=idle)
        idle.scheduler.submit(request(threshold=inf), 0.0)
        engine.stop()
        await engine.run()
    assert not backend.batches


class Card(FakeBackend):
    """Runs steps on its own, as many at once as are launched, and is through when told."""

    def __init__(self) -> None:
        super().__init__()
        self.flying: list[Flight] = []
        self.most = 0

    def launch(self, batch: Batch) -> "Flight":
        if batch.requests[0].context == "unlaunchable":
            raise RuntimeError("no memory")
        flight = Flight(self, batch)
        self.flying.append(flight)
        self.most = max(self.most, len(self.flying))
        return flight


class Flight:
    """One step on a Card, through after it was looked at a few times."""

    def __init__(self, card: Card, batch: Batch) -> None:
        self.card = card
        self.batch = batch
        self.looks = 0

    def done(self) -> bool:
        self.looks += 1
        return self.looks > 3

    def readings(self) -> Sequence[Reading]:
        assert self.looks > 3
        assert self.card.flying.pop(0) is self, "steps end in the order in which they were launched"
        return self.card.run(self.batch)


async def test_a_device_that_runs_on_its_own_has_two_steps_in_flight_and_needs_no_thread() -> None:
    card = Card()
    core = scheduler(max_batch_rows=2, slots=8)
    with ThreadPoolExecutor(1) as executor:
        engine = Engine(core, card, executor, steps_in_flight=2)
        futures = [engine.submit((0.5, 0.9, 0.9), 8, TERMS, 0.0) for _ in range(8)]
        running = asyncio.create_task(engine.run())
        assert [(await future).exit for future in futures] == [1] * 8
        engine.stop()
        await running
        assert not executor._threads  # pyright: ignore[reportPrivateUsage]
    assert card.most == 2


async def test_steps_that_can_not_be_launched_or_fail_on_the_device_cost_no_other() -> None:
    card = Card()
    core = scheduler(max_batch_rows=4, slots=8)
    with ThreadPoolExecutor(1) as executor:
        engine = Engine(core, card, executor, steps_in_flight=2)
        bad = engine.submit((0.9, 0.9, 0.9), 8, TERMS, 0.0, context="unlaunchable")
        poison = engine.submit((-1.0, 0.9, 0.9), 8, TERMS, 0.0)
        good = [engine.submit((0.5, 0.9, 0.9), 8, TERMS, 0.0) for _ in range(6)]
        given_up = engine.submit((0.5, 0.9, 0.9), 8, TERMS, 0.0)
        running = asyncio.create_task(engine.run())
        await asyncio.sleep(0)
        given_up.cancel()
        assert [(await future).exit for future in good] == [1] * 6
        for lost in (bad, poison):
            with pytest.raises(StepFailedError):
                await lost
        engine.stop()
        await running
    assert core.slots.held == 0
    assert not card.flying


async def test_a_device_that_takes_no_step_leaves_the_loop_to_others() -> None:
    passes = 0
    launches: list[int] = []

    class Lost(Card):
        def launch(self, batch: Batch) -> Flight:
            launches.append(passes)
            assert batch.requests
            raise RuntimeError("the card is gone")

    async def count() -> None:
        nonlocal passes
        while True:
            passes += 1
            await asyncio.sleep(0)

    core = scheduler(max_batch_rows=4, slots=8)
    with ThreadPoolExecutor(1) as executor:
        engine = Engine(core, Lost(), executor, steps_in_flight=2)
        futures = [engine.submit((0.9, 0.9, 0.9), 8, TERMS, 0.0) for _ in range(40)]
        counting, running = asyncio.create_task(count()), asyncio.create_task(engine.run())
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StepFailedError}
        engine.stop()
        await running
        counting.cancel()
    assert max(Counter(launches).values()) <= 2
