"""The stream of the asyncio client: texts go out as they come, beside the answers."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import grpc.aio

from offramp.client.aio_errors import Ending, cancelled
from offramp.client.core import Text
from offramp.client.errors import OfframpError
from offramp.client.exchange import WINDOW, Exchange
from offramp.v1 import classifier_service_pb2 as service_pb

if TYPE_CHECKING:
    StreamCall = grpc.aio.StreamStreamCall[
        service_pb.StreamClassifyTextRequest, service_pb.StreamClassifyTextResponse
    ]


async def outcomes(
    call: "StreamCall",
    texts: Iterable[Text] | AsyncIterable[Text],
    exchange: Exchange,
    *,
    return_errors: bool,
) -> AsyncGenerator[Any]:
    """What becomes of the texts: answers, and errors if they are wanted, else the first is raised.

    The call is over when this ends, in whatever way.
    """
    room, ending = asyncio.Semaphore(WINDOW), Ending(call)
    sender = asyncio.create_task(_send(call, texts, exchange, room))
    try:
        while (response := await _read(call)) is not None:
            for outcome in exchange.incoming(response):
                room.release()
                if isinstance(outcome, OfframpError) and not return_errors:
                    raise outcome
                yield outcome
        await sender
    except grpc.aio.AioRpcError as error:
        raise await ending.error(error) from error
    finally:
        sender.cancel()
        call.cancel()
        await asyncio.gather(sender, return_exceptions=True)


async def _read(call: "StreamCall") -> service_pb.StreamClassifyTextResponse | None:
    """The next message; None at the end."""
    try:
        message = await call.read()
    except asyncio.CancelledError as error:
        raise cancelled(error) from None
    ended = message is grpc.aio.EOF  # type: ignore[attr-defined]
    return None if ended else cast("service_pb.StreamClassifyTextResponse", message)


async def _send(
    call: "StreamCall",
    texts: Iterable[Text] | AsyncIterable[Text],
    exchange: Exchange,
    room: asyncio.Semaphore,
) -> None:
    """Send texts as they come, whatever is there in one message, until they end."""
    ready: asyncio.Queue[service_pb.CorrelatedInput | None] = asyncio.Queue()

    async def read() -> None:
        try:
            async for text in _each(texts):
                await room.acquire()
                ready.put_nowait(exchange.outgoing(text))
        finally:
            ready.put_nowait(None)

    def more() -> service_pb.CorrelatedInput | None:
        if ready.empty():
            return None
        item = ready.get_nowait()
        if item is None:
            ready.put_nowait(None)  # the end, for the loop to find
        return item

    reader = asyncio.create_task(read())
    try:
        while (first := await ready.get()) is not None:
            # A call that has ended takes no more; whoever reads it learns why.
            with suppress(asyncio.InvalidStateError):
                await call.write(exchange.message(first, more))
        await call.done_writing()
        await reader
    finally:
        reader.cancel()


async def _each(texts: Iterable[Text] | AsyncIterable[Text]) -> AsyncIterator[Text]:
    if isinstance(texts, AsyncIterable):
        async for text in texts:
            yield text
    else:
        for text in texts:
            yield text
