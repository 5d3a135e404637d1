"""Whoever asked the engine hears of it: every future settles, whatever happens to its request."""

import asyncio
import random
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest
from fakes import PATIENCE, FakeBackend, GatedBackend, scheduler

from offramp.scheduler.answers import AnswerFuture
from offramp.scheduler.deliveries import AT_A_TIME
from offramp.scheduler.engine import Engine
from offramp.scheduler.errors import DrainingError, QueueFullError, StepFailedError
from offramp.scheduler.request import Answer, Terms
from offramp.scheduler.scheduler import Scheduler

TERMS = Terms(threshold=0.8, min_exit=0, max_exit=99)
SHALLOW, DEEP, POISON = (0.9, 0.9, 0.9), (0.1, 0.2, 0.3), (-1.0, -1.0, -1.0)


@asynccontextmanager
async def running(core: Scheduler, backend: FakeBackend) -> AsyncGenerator[Engine]:
    """An engine on a thread of its own, stopped and empty at the end."""
    with ThreadPoolExecutor(1) as executor:
        engine = Engine(core, backend, executor)
        task = asyncio.create_task(engine.run())
        yield engine
        engine.stop()
        await asyncio.wait_for(task, PATIENCE)
        assert engine.scheduler.idle
        assert engine.scheduler.slots.held == 0


@pytest.mark.parametrize("seed", range(5))
async def test_every_future_settles(seed: int) -> None:
    draw = random.Random(seed)
    async with running(scheduler(slots=8, max_batch_rows=4), FakeBackend()) as engine:
        futures: list[asyncio.Future[Answer]] = []
        for _ in range(300):
            kind = draw.choices((SHALLOW, DEEP, POISON), (6, 6, 1))[0]
            futures.append(engine.submit(kind, 8, TERMS, 0.0))
            if draw.random() < 0.2:
                draw.choice(futures).cancel()
            if draw.random() < 0.1:
                await asyncio.sleep(0)
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        kinds = {type(outcome) for outcome in outcomes}
        assert kinds == {Answer, StepFailedError, asyncio.CancelledError}


async def test_cancelling_in_a_step_frees_the_slot_when_it_ends() -> None:
    backend = GatedBackend()
    async with running(scheduler(slots=1), backend) as engine:
        first = engine.submit(DEEP, 8, TERMS, 0.0)
        await backend.is_entered()
        first.cancel()
        second = engine.submit(SHALLOW, 8, TERMS, 0.0)
        assert engine.scheduler.slots.held == 1
        backend.gate.set()
        assert (await second).exit == 0
        assert engine.scheduler.slots.held == 0
        assert [batch.stage for batch in backend.batches] == [0, 0]


async def full(engine: Engine, backend: GatedBackend) -> list[AnswerFuture]:
    """One request in a step that waits before its gate, one that fills a queue of one."""
    running = engine.submit(SHALLOW, 8, TERMS, 0.0)
    await backend.is_entered()
    return [running, engine.submit(SHALLOW, 8, TERMS, 0.0)]


async def test_room_is_given_in_turn_and_not_lost_on_who_left() -> None:
    core, backend = scheduler(slots=1, max_batch_rows=1, max_queue_requests=1), GatedBackend()
    async with running(core, backend) as engine:
        held = await full(engine, backend)
        with pytest.raises(QueueFullError):
            engine.submit(SHALLOW, 8, TERMS, 0.0)
        order: list[int] = []

        async def wait(number: int) -> None:
            await engine.room()
            held.append(engine.submit(SHALLOW, 8, TERMS, 0.0))
            order.append(number)

        waiting = [asyncio.ensure_future(wait(number)) for number in range(4)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        backend.gate.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert order == [1, 2, 3]
        assert all([await future for future in held])


async def test_nobody_who_comes_again_and_again_takes_all_the_room() -> None:
    core = scheduler(slots=4, max_batch_rows=4, max_queue_requests=16)
    async with running(core, FakeBackend()) as engine:
        counts = [0, 0, 0]
        held: list[asyncio.Future[Answer]] = []

        async def come(who: int) -> None:
            while len(held) < 300:
                await engine.room()
                held.append(engine.submit(SHALLOW, 8, TERMS, 0.0))
                counts[who] += 1

        await asyncio.gather(*(come(who) for who in range(3)))
        await asyncio.gather(*held)
        assert min(counts) > 50


@pytest.mark.parametrize("let_in_first", [True, False], ids=["when let in", "just before"])
async def test_who_gives_up_in_the_turn_in_which_there_is_room_holds_up_nobody(
    let_in_first: bool,  # noqa: FBT001
) -> None:
    core, backend = scheduler(slots=1, max_batch_rows=1, max_queue_requests=1), GatedBackend()
    async with running(core, backend) as engine:
        held = await full(engine, backend)
        waiting = [asyncio.ensure_future(engine.room()) for _ in range(2)]
        await asyncio.sleep(0)
        gives_up, makes_room = waiting[0].cancel, held[1].cancel
        for happens in (makes_room, gives_up) if let_in_first else (gives_up, makes_room):
            happens()
        await asyncio.wait_for(waiting[1], PATIENCE)
        backend.gate.set()
        await held[0]


async def test_as_many_are_let_in_as_there_is_room_for() -> None:
    core = scheduler(slots=32, max_batch_rows=32, max_queue_requests=64, max_batch_tokens=512)
    backend = FakeBackend()
    async with running(core, backend) as engine:
        held: list[AnswerFuture] = []

        async def come() -> None:
            while len(held) < 1000:
                await engine.room()
                held.append(engine.submit(SHALLOW, 8, TERMS, 0.0))

        await asyncio.gather(*(come() for _ in range(64)))
        await asyncio.gather(*held)
        assert len(backend.batches) < 80  # of 32 at most


async def test_after_stop_nothing_new_is_taken_and_what_is_held_is_answered() -> None:
    backend = GatedBackend()
    async with running(scheduler(slots=1), backend) as engine:
        held = [engine.submit(DEEP, 8, TERMS, 0.0) for _ in range(5)]
        await backend.is_entered()
        engine.stop()
        with pytest.raises(DrainingError):
            engine.submit(SHALLOW, 8, TERMS, 0.0)
        backend.gate.set()
        assert [(await future).exit for future in held] == [2] * 5


async def test_after_stop_all_are_told_however_many_leave_together() -> None:
    rows = 5 * AT_A_TIME
    core = scheduler(max_batch_rows=rows, slots=rows, max_batch_tokens=16 * rows)
    async with running(core, FakeBackend()) as engine:
        futures = [engine.submit(SHALLOW, 8, TERMS, 0.0) for _ in range(rows)]  # in one step
    assert [future.done() for future in futures] == [True] * rows
