"""Departures are told of in their order, a few at a time, and the device runs on meanwhile."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf

from fakes import FakeBackend, request, scheduler

from offramp.scheduler.backend import Batch
from offramp.scheduler.deliveries import AT_A_TIME, SHARE, Deliveries
from offramp.scheduler.engine import Engine
from offramp.scheduler.errors import DrainingError
from offramp.scheduler.observer import NullObserver
from offramp.scheduler.reading import Reading
from offramp.scheduler.request import Answer, Departure, Terms


def test_a_few_at_a_time_and_more_where_many_wait() -> None:
    told: list[Departure] = []
    gone = [Departure(request(log=told), DrainingError()) for _ in range(20 * AT_A_TIME)]
    deliveries = Deliveries(NullObserver())
    deliveries.add(gone[: 2 * AT_A_TIME])
    for count in (AT_A_TIME, 2 * AT_A_TIME):
        assert deliveries
        deliveries.some()
        assert told == gone[:count]
    assert not deliveries
    deliveries.add(gone[2 * AT_A_TIME :])
    deliveries.some()
    assert len(told) == 2 * AT_A_TIME + 18 * AT_A_TIME // SHARE
    while deliveries:
        deliveries.some()
    assert told == gone


async def test_who_gives_up_while_being_told_waits_is_told_nothing() -> None:
    rows = 2 * AT_A_TIME
    core = scheduler(max_batch_rows=rows, slots=rows, max_batch_tokens=8 * rows)
    with ThreadPoolExecutor(1) as executor:
        engine = Engine(core, FakeBackend(), executor)
        terms = Terms(0.8, min_exit=0, max_exit=2)
        futures = [engine.submit((0.9, 0.9, 0.9), 8, terms, 0.0) for _ in range(rows)]
        futures[0].add_done_callback(lambda _: futures[-1].cancel())
        running = asyncio.create_task(engine.run())
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        engine.stop()
        await running
    assert [isinstance(outcome, Answer) for outcome in outcomes] == [True] * (rows - 1) + [False]
    assert futures[-1].cancelled()
    assert core.slots.held == 0


class Device(FakeBackend):
    """Runs a step for as long as it is looked at twice; notes how many were answered by then."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = 0
        self.launches: list[int] = []

    def launch(self, batch: Batch) -> "Step":
        self.launches.append(self.answered)
        return Step(self, batch)


class Step:
    def __init__(self, device: Device, batch: Batch) -> None:
        self._device, self._batch, self._looks = device, batch, 0

    def done(self) -> bool:
        self._looks += 1
        return self._looks > 2

    def readings(self) -> Sequence[Reading]:
        return self._device.run(self._batch)


async def test_a_step_that_hundreds_leave_does_not_hold_up_the_next() -> None:
    rows = 20 * AT_A_TIME
    device = Device()
    core = scheduler(
        max_batch_rows=rows, slots=2 * rows, max_batch_tokens=8 * rows, max_queue_requests=5 * rows
    )
    with ThreadPoolExecutor(1) as executor:
        engine = Engine(core, device, executor, steps_in_flight=2)
        terms = Terms(0.8, min_exit=0, max_exit=2, deadline=inf)
        futures = [engine.submit((0.9, 0.9, 0.9), 8, terms, 0.0) for _ in range(5 * rows)]

        def count(_: object) -> None:
            device.answered += 1

        for future in futures:
            future.add_done_callback(count)
        running = asyncio.create_task(engine.run())
        assert {(await future).exit for future in futures} == {0}
        engine.stop()
        await running
    assert device.launches[:3] == [0, 0, 0]
    assert device.launches[3] < rows, "before all of the first step were told"
