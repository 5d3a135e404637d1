"""One stream: a reader that submits, a writer that replies in order of completion.

At most `window` inputs are unanswered; beyond that the reader reads no further, gRPC's flow
control holds the client back, and nobody's memory grows. A full queue makes the reader wait.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

import grpc.aio

from offramp.scheduler.errors import DrainingError, SchedulerError
from offramp.scheduler.request import Answer
from offramp.server.errors import InvalidRequestError, MessageError
from offramp.server.prepare import Call, Prepared, prepare
from offramp.server.served import ModelRegistry
from offramp.server.wire import Outcome, fill
from offramp.v1 import classification_pb2, classifier_service_pb2

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Inputs: TypeAlias = Sequence[classifier_service_pb2.CorrelatedInput]
INPUTS_AT_ONCE = 64
"""Inputs of a message that are admitted in one go: 2 ms of the event loop at most."""

RESULTS_PER_MESSAGE = 64
LONGEST_ID = 256
"""Characters of a correlation id: what is held for a window, and what a message of results has, is
bounded by them."""


class StreamSession:
    """The state of one stream, for as long as it lasts."""

    def __init__(self, registry: ModelRegistry, context: Context, call: Call, window: int) -> None:
        self._registry = registry
        self._context = context
        self._call = call
        self._window = asyncio.Semaphore(window)
        self._reading = self._draining = False
        self._running: set[asyncio.Future[Answer]] = set()
        self._finished: list[tuple[str, Outcome]] = []
        self._news = asyncio.Event()

    async def run(self, draining: asyncio.Event) -> None:
        """Serve until the client has no more and all is answered.

        When the server drains, what was read is answered and DrainingError ends the stream.
        """
        reader = asyncio.create_task(self._read())
        reader.add_done_callback(lambda _: self._news.set())

        def drained(_: object) -> None:
            self._draining = True
            if self._reading:
                reader.cancel()

        drain = asyncio.create_task(draining.wait())
        drain.add_done_callback(drained)
        try:
            await self._write(reader)
            if reader.cancelled():
                raise DrainingError
            reader.result()
        finally:
            drain.cancel()
            reader.cancel()
            for future in tuple(self._running):
                future.cancel()

    async def _read(self) -> None:
        while not self._draining:
            self._reading = True
            message = await self._context.read()
            self._reading = False
            if message is grpc.aio.EOF:  # type: ignore[attr-defined]
                return
            if isinstance(message, MessageError):
                raise message
            start = 0
            while start < len(message.inputs):
                places = await self._places(min(INPUTS_AT_ONCE, len(message.inputs) - start))
                inputs: Inputs = message.inputs[start : start + places]
                start += places
                while inputs:
                    with self._registry.admissions:
                        inputs = await self._admit(inputs, message.options)
                await asyncio.sleep(0)  # others have their turn
        raise DrainingError

    async def _places(self, most: int) -> int:
        """Take as many of the window's places as there are, one at least, for which it waits.

        No model is looked up before there is a place, so that slow clients hold up no swap.
        """
        await self._window.acquire()
        taken = 1
        while taken < most and not self._window.locked():
            await self._window.acquire()
            taken += 1
        return taken

    async def _admit(
        self, inputs: Inputs, options: classification_pb2.ClassifyOptions
    ) -> list[classifier_service_pb2.CorrelatedInput]:
        """Submit inputs that have a place; returns those whose model was swapped meanwhile."""
        inputs = [one for one in inputs if self._named(one)]
        call = self._call._replace(arrived=time.monotonic())
        texts = [correlated.input for correlated in inputs]
        prepared = await prepare(self._registry, texts, options, call, waits=True)
        late: list[classifier_service_pb2.CorrelatedInput] = []
        for correlated, outcome in zip(inputs, prepared, strict=True):
            if isinstance(outcome, Prepared):
                await outcome.model.engine.room()
                if not self._submit(correlated.correlation_id, outcome):
                    late.append(correlated)
            else:
                self._finish(correlated.correlation_id, outcome)
        return late

    def _named(self, correlated: classifier_service_pb2.CorrelatedInput) -> bool:
        """Whether its correlation id may be held until it is answered; else it is answered now."""
        name = correlated.correlation_id
        if len(name) <= LONGEST_ID:
            return True
        told = f"has {len(name)} characters, at most {LONGEST_ID} are kept; here are the first"
        error = InvalidRequestError("correlation_id", told)
        self._registry.invalid(error)
        self._finish(name[:LONGEST_ID], error)
        return False

    def _submit(self, correlation_id: str, prepared: Prepared) -> bool:
        """Submit one; False if its model takes nothing any more, but another in its place will."""
        try:
            future = prepared.submit()
        except SchedulerError as error:
            if isinstance(error, DrainingError) and not self._draining:
                return False
            self._finish(correlation_id, error)
        else:
            self._running.add(future)
            future.add_done_callback(partial(self._answered, correlation_id, prepared))
        return True

    def _answered(
        self, correlation_id: str, prepared: Prepared, future: asyncio.Future[Answer]
    ) -> None:
        self._running.discard(future)
        if not future.cancelled():
            error = future.exception()
            self._finish(correlation_id, error or (prepared, future.result()))

    def _finish(self, correlation_id: str, outcome: Outcome) -> None:
        self._finished.append((correlation_id, outcome))
        self._news.set()

    async def _write(self, reader: asyncio.Task[None]) -> None:
        while self._finished or self._running or not reader.done():
            await self._news.wait()
            self._news.clear()
            while finished := self._finished[:RESULTS_PER_MESSAGE]:
                del self._finished[: len(finished)]
                response = classifier_service_pb2.StreamClassifyTextResponse()
                for correlation_id, outcome in finished:
                    correlated = response.results.add()
                    correlated.correlation_id = correlation_id
                    fill(correlated.result, outcome)
                await self._context.write(response)
                for _ in finished:
                    self._window.release()
