"""Which steps the engine runs, where, and beside which others."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from math import inf

import pytest
from fakes import PATIENCE, FakeBackend, GatedBackend, Where, request, scheduler, teach

from offramp.scheduler.backend import Batch
from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.deliveries import AT_A_TIME
from offramp.scheduler.engine import TURNS, Engine
from offramp.scheduler.errors import QueueFullError, SchedulerError
from offramp.scheduler.flights import Lane
from offramp.scheduler.observer import NullObserver
from offramp.scheduler.policy import Adaptive
from offramp.scheduler.reading import Reading
from offramp.scheduler.request import Answer, Departure, Request, Terms
from offramp.scheduler.scheduler import Scheduler
from offramp.scheduler.solitude import LONELY

TERMS = Terms(threshold=0.8, min_exit=0, max_exit=99)
SURE = (0.9, 0.9, 0.9)
HERE = "MainThread"


@asynccontextmanager
async def running(
    core: Scheduler,
    backend: FakeBackend,
    *,
    observer: NullObserver | None = None,
    idle: Lane | None = None,
    steps_in_flight: int = 1,
    alone_at_once: float = 0.0,
) -> AsyncGenerator[Engine]:
    """An engine with a thread for each worker, stopped at the end."""
    with ThreadPoolExecutor(core.config.workers, "far") as executor:
        engine = Engine(
            core, backend, executor, observer, idle, steps_in_flight, alone_at_once=alone_at_once
        )
        task = asyncio.create_task(engine.run())
        yield engine
        engine.stop()
        await asyncio.wait_for(task, PATIENCE)


async def passes(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def ask(engine: Engine, confidences: Sequence[float] = SURE) -> asyncio.Future[Answer]:
    return engine.submit(confidences, 8, TERMS, 0.0)


async def test_who_comes_while_a_step_runs_is_cut_ahead() -> None:
    core, backend = scheduler(max_batch_rows=1), GatedBackend()
    async with running(core, backend, steps_in_flight=2) as engine:
        first = ask(engine)
        await backend.is_entered()
        second = ask(engine)
        await passes(20)
        held = core.slots.held
        backend.gate.set()
        await asyncio.gather(first, second)
    assert held == 2


async def test_every_worker_has_a_step() -> None:
    class Together(FakeBackend):
        """Runs three steps at the same time or none."""

        barrier = threading.Barrier(3)

        def run(self, batch: Batch) -> Sequence[Reading]:
            self.barrier.wait(PATIENCE)
            return super().run(batch)

    async with running(scheduler(workers=3, max_batch_rows=1), Together()) as engine:
        answers = await asyncio.gather(*(ask(engine) for _ in range(3)))
    assert [answer.exit for answer in answers] == [0, 0, 0]


async def test_the_idle_lane_runs_beside_no_other_step() -> None:
    core, backend = scheduler(), GatedBackend()
    idle = Lane(scheduler(slots=1, first_slot=64), NullObserver())
    async with running(core, backend, idle=idle, steps_in_flight=2) as engine:
        first = ask(engine)
        await backend.is_entered()
        idle.scheduler.submit(request(threshold=inf), 0.0)
        second = ask(engine)  # wakes the engine, and fills no batch
        await passes(20)
        held = idle.scheduler.slots.held
        backend.gate.set()
        await asyncio.gather(first, second)
    assert held == 0


async def test_the_idle_lane_waits_until_all_who_left_are_told() -> None:
    rows = 3 * AT_A_TIME
    core = scheduler(max_batch_rows=rows, slots=rows, max_batch_tokens=16 * rows)
    idle = Lane(scheduler(slots=1, first_slot=rows), NullObserver())

    class Beside(NullObserver):
        """Notes what the idle lane holds whenever somebody leaves."""

        def __init__(self) -> None:
            self.held: list[int] = []

        def departed(self, departure: Departure) -> None:
            self.held.append(idle.scheduler.slots.held)

    beside = Beside()
    done: asyncio.Future[Departure] = asyncio.get_running_loop().create_future()
    shadow = request(confidences=SURE, threshold=inf)
    shadow.deliver = done.set_result
    async with running(core, FakeBackend(), observer=beside, idle=idle) as engine:
        answers = [ask(engine) for _ in range(rows)]
        idle.scheduler.submit(shadow, 0.0)
        await asyncio.gather(*answers)
        await done
    assert beside.held == [0] * rows


async def test_due_is_whatever_ends_first_of_both_lanes() -> None:
    core, other = teach(scheduler(), {8: 9.0}), teach(scheduler(first_slot=64), {8: 2.0})
    with ThreadPoolExecutor(1) as executor:
        engine = Engine(core, FakeBackend(), executor, idle=Lane(other, NullObserver()))
        assert engine.due == inf
        for one in (other, core):
            one.submit(request(), 0.0)
            one.next_batch(0.0)
            assert engine.due == 2.0


async def test_where_no_exit_is_read_there_are_no_readings() -> None:
    class Frugal(FakeBackend):
        """Reads nothing that it need not read."""

        def run(self, batch: Batch) -> Sequence[Reading]:
            readings = super().run(batch)
            return readings if batch.reads else []

    async with running(scheduler(), Frugal()) as engine:
        answer = await engine.submit(SURE, 8, Terms(0.8, min_exit=1, max_exit=99), 0.0)
    assert answer.exit == 1


async def test_those_on_their_way_count_in_a_full_queue_and_who_is_turned_away_is_told_of() -> None:
    class Refused(NullObserver):
        def __init__(self) -> None:
            self.errors: list[type[SchedulerError]] = []

        def refused(self, request: Request, error: SchedulerError) -> None:
            self.errors.append(type(error))

    refused = Refused()
    with ThreadPoolExecutor(1) as executor:
        engine = Engine(scheduler(max_queue_requests=3), FakeBackend(), executor, refused)
        assert engine.turned_away(TERMS, 0.0, coming=2) is None
        assert isinstance(engine.turned_away(TERMS, 0.0, coming=3), QueueFullError)
    assert refused.errors == [QueueFullError]


async def test_a_step_of_unknown_length_runs_on_a_thread() -> None:
    backend = Where()
    with ThreadPoolExecutor(1, "far") as executor:
        engine = Engine(scheduler(), backend, executor, at_once=1.0)
        answer = ask(engine)
        engine.stop()
        await engine.run()
    assert answer.result().exit == 0
    assert backend.threads == ["far_0"]


class Known(CostModel):
    """Knows what a step takes, and only notes the stages of what it is told."""

    def __init__(self, seconds: float) -> None:
        super().__init__(3)
        for stage in range(3):
            super().observe(stage, 1, 8, seconds)
        self.noted: list[int] = []

    def observe(self, stage: int, rows: int, tokens: int, seconds: float) -> None:
        self.noted.append(stage)


@pytest.mark.parametrize(("longest", "last"), [(1.0, HERE), (0.005, "far_0")])
async def test_a_lone_step_runs_here_if_it_is_short_and_then_teaches_nothing(
    monkeypatch: pytest.MonkeyPatch, longest: float, last: str
) -> None:
    monkeypatch.setattr("offramp.scheduler.solitude.BRISK", inf)
    cost, backend = Known(0.01), Where()
    core = Scheduler(SchedulerConfig(3), Adaptive(), cost)
    async with running(core, backend, alone_at_once=longest) as engine:
        for _ in range(LONELY + 3):
            await ask(engine)
    assert backend.threads[-1] == last
    assert len(cost.noted) == backend.threads.count("far_0")


async def test_who_comes_during_a_lone_step_is_seen_before_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("offramp.scheduler.solitude.BRISK", inf)
    came: list[asyncio.Future[Answer]] = []

    async def come(engine: Engine) -> None:
        await passes(TURNS // 2)
        came.append(ask(engine))

    class Meanwhile(Where):
        """In its first step on the loop another sets out."""

        def run(self, batch: Batch) -> Sequence[Reading]:
            if threading.current_thread() is threading.main_thread() and HERE not in self.threads:
                coming.append(asyncio.ensure_future(come(engine)))
            return super().run(batch)

    coming, backend = list[asyncio.Future[None]](), Meanwhile()
    core = Scheduler(SchedulerConfig(3), Adaptive(), Known(0.01))
    async with running(core, backend, alone_at_once=1.0) as engine:
        for _ in range(LONELY + 1):
            await ask(engine)
        await ask(engine, (0.1, 0.1, 0.9))
        await asyncio.gather(*coming)
        await asyncio.gather(*came)
    first = backend.threads.index(HERE)
    assert backend.threads[first + 1] == "far_0"
