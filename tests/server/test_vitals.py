"""A model that is in its place and of no use: the server finds out, and ends."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Never, cast

import pytest
import torch
from loglines import written
from service import PATIENCE, WordBackend, eventually, word_service
from tiny import tiny_checkpoint

from offramp.client import AsyncClient, OfframpError, ServerFailedError
from offramp.model.checkpoint import Checkpoint, load_checkpoint
from offramp.scheduler.errors import StepFailedError
from offramp.server import vitals
from offramp.server.app import App
from offramp.server.config import Limits, ServerConfig
from offramp.server.served import ServedModel
from offramp.server.vitals import ModelLostError, fails, hangs

KNOWN = 16
"""Tokens of what the model is tested with, more than any text here has."""


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that a test can wait for."""
    monkeypatch.setattr(vitals, "LOOK", 0.01)
    monkeypatch.setattr(vitals, "HANGING", 20)


def known_steps(backend: WordBackend) -> int:
    """How often the model has read the known input since it serves."""
    return sum(batch.requests[0].tokens == KNOWN for batch in backend.batches)


class LoneBackend(WordBackend):
    """Known to the test that makes the app: there is one."""

    made: "LoneBackend"

    def __init__(self, checkpoint: Checkpoint, slots: int, device: torch.device) -> None:
        super().__init__(checkpoint, slots, device)
        LoneBackend.made = self


@asynccontextmanager
async def started(
    directory: Path, limits: Limits | None = None, workers: int = 1
) -> AsyncGenerator[tuple[App, AsyncClient]]:
    """A server that the test stops."""
    config = ServerConfig(
        "127.0.0.1:0",
        (tiny_checkpoint(directory / "words"),),
        workers=workers,
        threads=1,
        limits=replace(limits or Limits(), at_once=0.0, alone_at_once=0.0),
        drain_grace=0.1,
    )
    app = App(config, make_backend=LoneBackend)
    async with AsyncClient(await app.start()) as client:
        yield app, client


async def test_a_step_that_never_ends_ends_the_server(tmp_path: Path) -> None:
    with written() as lines:
        async with started(tmp_path) as (app, client):
            waiting = asyncio.ensure_future(client.classify("plug", timeout=PATIENCE))
            await app.failed()
            with pytest.raises(ModelLostError, match="overdue"):
                await app.stop()  # it hangs still, and is not waited for
            with pytest.raises(OfframpError):
                await waiting
        LoneBackend.made.unplug()
    (lost,) = lines.of("offramp.lost")
    assert (lost["model"], lost["level"]) == ("words", "ERROR")


async def test_a_model_that_fails_on_all_ends_the_server(tmp_path: Path) -> None:
    async with started(tmp_path) as (app, client):
        LoneBackend.made.batches.clear()
        LoneBackend.made.broken = inf
        with pytest.raises(ServerFailedError):
            await client.classify("fine")
        await app.failed()
        with pytest.raises(ModelLostError, match="read before"):
            await app.stop()
    assert known_steps(LoneBackend.made) == vitals.FAILING


async def test_a_step_that_hangs_while_it_drains_is_not_waited_for(tmp_path: Path) -> None:
    async with started(tmp_path) as (app, client):
        waiting = asyncio.ensure_future(client.classify("plug", timeout=PATIENCE))
        await LoneBackend.made.is_plugged()
        with pytest.raises(ModelLostError, match="overdue"):
            await app.stop()
        with pytest.raises(OfframpError):
            await waiting
    LoneBackend.made.unplug()


async def test_a_model_that_dies_while_it_is_swapped_is_lost(tmp_path: Path) -> None:
    async with started(tmp_path, workers=2) as (app, client):
        old = LoneBackend.made
        waiting = asyncio.ensure_future(client.classify("plug", timeout=PATIENCE))
        await old.is_plugged()
        tiny_checkpoint(tmp_path / "words", ("bad", "good"))
        await app.swap()
        await app.failed()
        with pytest.raises(ModelLostError, match="overdue"):
            await app.stop()
        with pytest.raises(OfframpError):
            await waiting
    old.unplug()


async def test_a_model_that_fails_is_found_out_under_overload(tmp_path: Path) -> None:
    limits = Limits(slots=1, max_batch_rows=1, max_queue_requests=1)
    async with started(tmp_path, limits) as (app, client):
        LoneBackend.made.broken = inf

        async def insist() -> None:
            while True:
                with suppress(OfframpError):
                    await client.classify("fine")

        crowd = [asyncio.create_task(insist()) for _ in range(8)]
        await app.failed()
        for one in crowd:
            one.cancel()
        with pytest.raises(ModelLostError, match="read before"):
            await app.stop()


async def test_a_model_that_recovers_serves_on(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service:
        service.backend.broken = vitals.FAILING  # the client's and one less than would end it
        with pytest.raises(ServerFailedError):
            await service.client.classify("fine")
        await eventually(lambda: service.backend.batches[-1].stage == 2)
        assert (await service.client.classify("fine")).label == "yes"
        before = known_steps(service.backend)
        await asyncio.sleep(1.5 * vitals.HANGING * vitals.LOOK)
        assert known_steps(service.backend) == before  # nothing is asked of a model that works
        assert (await service.client.classify("fine")).label == "yes"  # which is idle, not lost


async def test_inputs_that_fail_are_no_sign_of_it(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service:

        async def known(steps: int) -> None:
            await eventually(lambda: known_steps(service.backend) >= steps)

        for times in range(2 * vitals.FAILING):
            with pytest.raises(ServerFailedError):
                await service.client.classify("poison")
            await known(3 * (times + 1))
        assert (await service.client.classify("fine")).label == "yes"


async def test_a_step_that_takes_long_is_waited_for(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service:
        texts = ["fine"] * 30
        service.backend.seconds = 3 * vitals.LOOK
        answers = [answer async for answer in service.client.classify_many(texts)]
        assert {answer.label for answer in answers} == {"yes"}


class LookedAtForLongError(Exception):
    """Twice as often as it takes to find a step that hangs."""


def due_at(times: Iterable[float]) -> ServedModel:
    """A model whose step is due at the first time at the first look, and so on."""
    coming = iter(times)

    class Engine:
        @property
        def due(self) -> float:
            with suppress(StopIteration):
                return next(coming)
            raise LookedAtForLongError

    return cast(
        "ServedModel", SimpleNamespace(engine=Engine(), checkpoint=SimpleNamespace(name=""))
    )


@pytest.mark.parametrize(
    ("due", "ends"),
    [
        pytest.param(lambda _: inf, LookedAtForLongError, id="idle"),
        pytest.param(lambda _: 1000.0, LookedAtForLongError, id="not due yet"),
        pytest.param(lambda look: look - 1000.0, LookedAtForLongError, id="late, one by one"),
        pytest.param(lambda _: -1000.0, ModelLostError, id="the same for ever"),
    ],
)
async def test_only_a_step_that_stays_overdue_hangs(
    due: Callable[[int], float], ends: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vitals, "LOOK", 0.0)
    now = time.monotonic()
    with pytest.raises(ends):
        await hangs(due_at(now + due(look) for look in range(2 * vitals.HANGING)))


async def test_a_known_input_waits_for_room_and_is_not_refused(tmp_path: Path) -> None:
    checkpoint, asked = load_checkpoint(tiny_checkpoint(tmp_path / "words")), list[str]()

    class Engine:
        async def room(self) -> None:
            asked.append("room")

        async def submit(self, *_: object) -> Never:
            asked.append("submit")
            raise StepFailedError(RuntimeError())

    class Failing:
        engine = Engine()
        failures = 0

        def __init__(self) -> None:
            self.checkpoint = checkpoint

    model = Failing()
    looking = asyncio.ensure_future(fails(cast("ServedModel", model)))
    await asyncio.sleep(0)  # until it knows how many failed before
    model.failures = 1
    with pytest.raises(ModelLostError, match="read before"):
        await looking
    assert asked == ["room", "submit"] * vitals.FAILING


HANGING_SERVER = """
import sys, threading
from offramp.cli.serve import main
from offramp.scheduler.engine import Engine
from offramp.server import loader, vitals
from offramp.server.backend import TorchBackend
vitals.LOOK, vitals.HANGING, vitals.TELLING = 0.01, 100, 0.5
loader.Engine = lambda *given, **more: Engine(*given, **{**more, "at_once": %s})
run = TorchBackend.run
def hang(backend, batch):
    if batch.requests[0].tokens < %d:
        threading.Event().wait()
    return run(backend, batch)
TorchBackend.run = hang
sys.exit(main(sys.argv[1:]))
"""


@asynccontextmanager
async def hanging(
    checkpoint: Path, at_once: float, stderr: int
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A server's process that hangs at its first request, which it has been sent."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HANGING_SERVER % (at_once, KNOWN)),
        *("--checkpoint", str(checkpoint), "--address", "127.0.0.1:0"),
        *("--workers", "1", "--log-format", "json"),
        stdout=subprocess.PIPE,
        stderr=stderr,
    )
    try:
        assert process.stdout is not None
        address = (await process.stdout.readline()).decode().split()[-1]
        async with AsyncClient(address) as client:
            waiting = asyncio.ensure_future(client.classify("fine", timeout=PATIENCE))
            yield process
            with pytest.raises(OfframpError):
                await waiting
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    ("at_once", "told", "meanwhile"),
    [
        (1.0, "the event loop stands still", "nothing"),
        (0.0, "overdue", "nothing"),
        (0.0, "overdue", "a swap"),
    ],
)
async def test_the_process_ends_whichever_thread_hangs(
    at_once: float, told: str, meanwhile: str, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "words")
    async with hanging(checkpoint, at_once, subprocess.PIPE) as process:
        if meanwhile == "a swap":
            tiny_checkpoint(checkpoint, ("bad", "good"))
            process.send_signal(signal.SIGHUP)
        _, written_there = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 1
    lines = written_there.decode().splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    (lost,) = [event for event in events if event["event"] == "offramp.lost"]
    assert told in lost["message"]


async def test_the_process_ends_though_nobody_reads_why(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    async with hanging(tiny_checkpoint(tmp_path / "words"), 1.0, writer) as process:
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writer, b"full ")
        os.set_blocking(writer, True)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 1
    os.close(reader)
    os.close(writer)
