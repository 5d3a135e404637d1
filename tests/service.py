"""A real server and its client, for tests that need the wire."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tiny import tiny_checkpoint, word

from offramp.client import AsyncClient, InvalidRequestError, ServerFailedError
from offramp.model.checkpoint import Checkpoint
from offramp.model.tokenizer import Tokens
from offramp.scheduler.backend import Batch
from offramp.scheduler.errors import DeadlineUnreachableError
from offramp.scheduler.reading import Reading
from offramp.scheduler.request import Terms
from offramp.scheduler.scheduler import Scheduler
from offramp.server.app import App
from offramp.server.config import Limits, ServerConfig
from offramp.server.telemetry.setup import OFF, Telemetry

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "checkpoints" / "sst2-minilm"
PATIENCE = 30.0
"""Seconds after which a test that waits gives up; none waits this long when all is well."""


class WordBackend:
    """Reads words: `easy` is .9 sure at once, others .6, .7 and .8 at the three exits.

    `shift` is as sure as `easy`, but its first exit says the opposite of the later ones.
    A batch with `plug` stops until `unplug`, one with `poison` fails, and readings of one with
    `void` are none, which kills the engine; the next `broken` steps fail. A step takes `seconds`
    at least. It knows what it ran.
    """

    def __init__(self, checkpoint: Checkpoint, slots: int, device: torch.device) -> None:
        del checkpoint, slots, device
        self.batches: list[Batch] = []
        self.padding = 0
        self.seconds = 0.0
        self.broken = 0.0
        self.plugged = threading.Event()
        self._unplugged = threading.Event()

    def run(self, batch: Batch) -> Sequence[Reading]:
        time.sleep(self.seconds)
        words = [_words(request.payload) for request in batch.requests]
        if any(word("plug") in row for row in words) and not self._unplugged.is_set():
            self.batches.append(batch)
            self.plugged.set()
            assert self._unplugged.wait(PATIENCE)
        else:
            self.batches.append(batch)
        self.broken -= 1
        if self.broken >= 0 or any(word("poison") in row for row in words):
            raise RuntimeError("a secret of the model")
        if any(word("void") in row for row in words):
            return cast("list[Reading]", [None] * len(words))
        return [self._read(row, batch.stage) for row in words]

    def _read(self, row: Sequence[int], stage: int) -> Reading:
        sure = 0.9 if word("easy") in row or word("shift") in row else 0.6 + stage / 10
        if word("shift") in row and stage == 0:
            return Reading(0, sure, (sure, 1 - sure))
        return Reading(1, sure, (1 - sure, sure))

    def warm(self, tokens: int) -> Iterable[Callable[[], None]]:
        """Nothing to compile."""
        return ()

    def unplug(self) -> None:
        """Let batches run on, this one and all later ones."""
        self._unplugged.set()

    async def is_plugged(self) -> None:
        """Return when a batch with `plug` is in its step."""
        assert await asyncio.to_thread(self.plugged.wait, PATIENCE)


def _words(payload: object) -> Sequence[int]:
    assert isinstance(payload, Tokens)
    return payload.ids


@dataclass(frozen=True, slots=True)
class WordService:
    """A server of words, with what a test looks at inside it."""

    app: App
    address: str
    client: AsyncClient
    backend: WordBackend

    @property
    def scheduler(self) -> Scheduler:
        return self.app.models.get("").engine.scheduler

    @property
    def held(self) -> tuple[int, int]:
        """Requests in the queue and slots held."""
        return self.scheduler.queued, self.scheduler.slots.held


@asynccontextmanager
async def serving(**settings: Any) -> AsyncGenerator[AsyncClient]:  # noqa: ANN401
    """A client of a server of the shipped checkpoint on a free port, drained afterwards."""
    app = App(ServerConfig("127.0.0.1:0", (SHIPPED,), drain_grace=5.0, **settings))
    address = await app.start()
    try:
        async with AsyncClient(address) as client:
            yield client
    finally:
        await app.stop()


@asynccontextmanager
async def word_service(
    directory: Path,
    limits: Limits | None = None,
    telemetry: Telemetry = OFF,
    **settings: Any,  # noqa: ANN401 - fields of ServerConfig
) -> AsyncGenerator[WordService]:
    """A server whose model reads words, on a free port, drained afterwards.

    Its telemetry is closed with it, so that all of it has arrived when this is left.
    """
    backends: list[WordBackend] = []

    def make(checkpoint: Checkpoint, slots: int, device: torch.device) -> WordBackend:
        backends.append(WordBackend(checkpoint, slots, device))
        return backends[-1]

    checkpoint = tiny_checkpoint(directory / "words")
    config = ServerConfig(
        "127.0.0.1:0",
        (checkpoint,),
        workers=1,
        threads=1,
        limits=replace(
            limits or Limits(), at_once=0.0, alone_at_once=0.0
        ),  # a plugged step must not stop the loop
        drain_grace=5.0,
        **settings,
    )
    app = App(config, telemetry, make_backend=make)
    backends[0].batches.clear()  # those of the warm-up
    address = await app.start()
    try:
        async with AsyncClient(address) as client:
            yield WordService(app, address, client, backends[0])
    finally:
        backends[0].unplug()
        await app.stop()
        await asyncio.to_thread(telemetry.close)


async def send_everything(service: WordService) -> None:
    """Requests that leave in every way there is."""
    client = service.client
    await client.classify("easy film")
    texts = ["fine film"] * 15 + ["easy"] * 5
    assert len([a async for a in client.classify_many(texts)]) == 20
    with pytest.raises(InvalidRequestError):
        await client.classify(" ")
    with pytest.raises(ServerFailedError):
        await client.classify("poison")
    engine = service.app.models.get("").engine
    with pytest.raises(DeadlineUnreachableError):
        engine.submit("no tokens", 8, Terms(0.5, 0, 2, deadline=0.0), 0.0)
    engine.submit("no tokens", 8, Terms(0.5, 0, 2), 0.0).cancel()
    watch = service.app.models.get("").watch
    assert watch is not None
    assert watch.shadow is not None
    agreement = watch.shadow.agreement
    await eventually(lambda: agreement.added == 21)
    await service.app.swap()
    await asyncio.sleep(0.15)  # for one look at the event loop


async def eventually(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; what it waits for is on its way through sockets."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - no event tells of the other end
            await asyncio.sleep(0.002)
