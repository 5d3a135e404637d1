"""The models of a server by name, each with its tokenizer and its engine."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass

from offramp.model.checkpoint import Checkpoint
from offramp.model.tokenizer import Tokens
from offramp.scheduler.engine import Engine
from offramp.scheduler.errors import SchedulerError
from offramp.scheduler.request import Terms
from offramp.server.errors import ModelNotFoundError
from offramp.server.telemetry.watch import ModelWatch
from offramp.v1 import classification_pb2 as pb

AT_ONCE_CHARACTERS = 1000
"""Texts this short together are tokenized on the event loop: 0.01 ms for a sentence of known words
and 0.5 ms at most, where a thread costs 0.1 to 0.3 ms in switching alone (docs/performance.md)."""


@dataclass(slots=True, eq=False)
class ServedModel:
    """A checkpoint, the engine that runs it and the threads that tokenize for it.

    `watch` observes its requests, if anybody wants to know. `waiting` are the inputs that these
    threads have or will have.
    """

    checkpoint: Checkpoint
    engine: Engine
    tokenizers: Executor
    watch: ModelWatch | None = None
    waiting: int = 0

    @property
    def failures(self) -> int:
        """Requests that the model failed on so far."""
        return self.watch.failures if self.watch is not None else 0

    def turned_away(self, terms: Terms, arrived: float) -> SchedulerError | None:
        """Why an input is refused before it is tokenized, which would be for nothing."""
        return self.engine.turned_away(terms, arrived, self.waiting)

    def attach(self) -> None:
        """Let telemetry read this model where it read another of its name."""
        if self.watch is not None:
            self.watch.attach()

    def close(self) -> None:
        """Nothing more will happen to it; telemetry tells what it still has to tell."""
        if self.watch is not None:
            self.watch.close()

    async def tokenize(self, inputs: Sequence[pb.TextInput]) -> list[Tokens]:
        """Tokenize on a thread, but what takes less than the way there and back at once."""
        texts = [(i.text, i.text_pair if i.HasField("text_pair") else None) for i in inputs]
        encode = self.checkpoint.tokenizer.encode
        started = time.perf_counter()
        if sum(len(text) + len(pair or "") for text, pair in texts) <= AT_ONCE_CHARACTERS:
            tokens = encode(texts)
        else:
            loop = asyncio.get_running_loop()
            self.waiting += len(inputs)
            try:
                tokens = await loop.run_in_executor(self.tokenizers, encode, texts)
            finally:
                self.waiting -= len(inputs)
        if self.watch is not None:
            self.watch.tokenized(time.perf_counter() - started, len(inputs))
        return tokens


class Admissions:
    """Counts who is between looking a model up and submitting to it; a `with` of these is one."""

    def __init__(self) -> None:
        self._open = 0
        self._closed = asyncio.Event()

    def __enter__(self) -> None:
        self._open += 1

    def __exit__(self, *_: object) -> None:
        self._open -= 1
        if not self._open:
            self._closed.set()

    async def over(self, seconds: float) -> None:
        """Return when all are done, or after so many seconds; nobody new may come."""
        if self._open:
            self._closed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), seconds)


class ModelRegistry:
    """The served models; the first answers requests that name none.

    Whoever looks a model up and submits to it does both within `admissions`, so that no model is
    taken away in between.
    """

    def __init__(self, models: Sequence[ServedModel], invalid: Callable[[Exception], None]) -> None:
        self._models = {model.checkpoint.name: model for model in models}
        self._first = models[0].checkpoint.name
        self.admissions = Admissions()
        self.invalid = invalid
        """Told of every input that no model can take."""

    def put(self, model: ServedModel) -> Admissions:
        """Serve a model in the place of that of its name; the admissions that knew the old one."""
        self._models[model.checkpoint.name] = model
        before, self.admissions = self.admissions, Admissions()
        return before

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def get(self, name: str) -> ServedModel:
        """The model of this name; raises ModelNotFoundError."""
        if not name:
            return self._models[self._first]
        if name not in self._models:
            raise ModelNotFoundError(name, tuple(self._models))
        return self._models[name]
