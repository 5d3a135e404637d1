"""What the generator drives: any server, by an adapter of a few lines."""

import importlib
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

import grpc

from offramp.client import AsyncClient, OfframpError, Options, Text

Input_contra = TypeVar("Input_contra", contravariant=True)
"""What a server judges: `str` where it takes single texts, `Text` where it takes pairs too."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server said of a text: its label and, where it has exits, the exit and layers run."""

    label: str
    exit: int | None = None
    layer: int | None = None


class Target(Protocol[Input_contra]):
    """A server under load; entered once, then called concurrently on one event loop.

    What a call raises is counted by its type's name and never retried.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    async def classify(self, text: Input_contra) -> Reply:
        """One text, one message."""
        ...

    def classify_many(
        self, texts: AsyncIterator[Input_contra]
    ) -> AsyncIterator[tuple[int, Reply | Exception]]:
        """Texts over one stream: replies with the index of their text, in any order.

        Raises NotImplementedError, with the reason, where the server has no streams.
        """
        ...


class OfframpTarget:
    """An offramp server, called by its own client, without the retries.

    `credentials` and `token` are the client's, for a server that is secured.
    """

    def __init__(
        self,
        address: str,
        timeout: float | None,
        options: Options,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | None = None,
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._options = options
        self._credentials = credentials
        self._token = token

    async def __aenter__(self) -> Self:
        self._client = AsyncClient(
            self._address,
            credentials=self._credentials,
            token=self._token,
            timeout=self._timeout,
            retries=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.close()

    async def classify(self, text: Text) -> Reply:
        """One text, or two that are judged together, one call."""
        first, second = (text, None) if isinstance(text, str) else text
        answer = await self._client.classify(first, second, **self._options)
        return Reply(answer.label, answer.exit, answer.layer)

    async def classify_many(
        self, texts: AsyncIterator[Text]
    ) -> AsyncIterator[tuple[int, Reply | Exception]]:
        """Texts over one stream."""
        answers = self._client.classify_many(
            texts, ordered=False, return_errors=True, **self._options
        )
        async for answer in answers:
            if isinstance(answer, OfframpError):
                assert answer.index is not None
                yield answer.index, answer
            else:
                yield answer.index, Reply(answer.label, answer.exit, answer.layer)


class InTurn(Generic[Input_contra]):
    """Several targets, as connections of one server, one after the other."""

    def __init__(self, targets: Iterable[Target[Input_contra]]) -> None:
        self._targets = tuple(targets)
        self._next = cycle(self._targets)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for target in self._targets:
            await self._open.enter_async_context(target)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._open.aclose()

    async def classify(self, text: Input_contra) -> Reply:
        """One text, one message, to the next of them."""
        return await next(self._next).classify(text)

    def classify_many(
        self, texts: AsyncIterator[Input_contra]
    ) -> AsyncIterator[tuple[int, Reply | Exception]]:
        """Texts over one stream, to the next of them."""
        return next(self._next).classify_many(texts)


def adapter(name: str, address: str) -> Target[str]:
    """The target that `MODULE:CALLABLE` makes of an address; raises ValueError if there is none."""
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(f"an adapter is named MODULE:CALLABLE, not {name!r}")
    try:
        make = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"no adapter {name!r}: {error}") from error
    try:
        target: Target[str] = make(address)
    except Exception as error:
        raise ValueError(f"the adapter {name!r} makes nothing of an address: {error}") from error
    if not hasattr(target, "classify"):
        raise ValueError(f"the adapter {name!r} makes no target of an address, but {target!r}")
    return target
