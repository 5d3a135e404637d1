"""The stream of the asyncio client: texts go out as they come, beside the answers.

gRPC marks a call as failed when it can't send on it any more, and drops answers that nobody has
read by its deadline. So a task of its own takes answers at once, and by iteration: that goes on
after such a mark, while `call.read()` refuses what has arrived.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

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
    Inbox = asyncio.Queue[service_pb.StreamClassifyTextResponse | None]

ENDED = (asyncio.InvalidStateError, grpc.aio.AioRpcError, grpc.aio.InternalError)
"""What gRPC raises where one sends on a call that has ended."""


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
    room, inbox = asyncio.Semaphore(WINDOW), asyncio.Queue[Any]()
    receiver = asyncio.create_task(_receive(call, Ending(call), inbox))
    sender = asyncio.create_task(_send(call, texts, exchange, room))
    try:
        while (response := await inbox.get()) is not None:
            for outcome in exchange.incoming(response):
                room.release()
                if isinstance(outcome, OfframpError) and not return_errors:
                    raise outcome
                yield outcome
        await receiver  # raises what ended the call
        await sender  # and this what the texts raised
    finally:
        sender.cancel()
        receiver.cancel()
        call.cancel()
        await asyncio.gather(sender, receiver, return_exceptions=True)


async def _receive(call: "StreamCall", ending: Ending, inbox: "Inbox") -> None:
    """Take messages as they come, a window of answers at most; None at the end."""
    try:
        async for message in call:
            inbox.put_nowait(message)
    except asyncio.CancelledError as error:
        raise cancelled(error) from None
    except grpc.aio.AioRpcError as error:
        raise await ending.error(error) from error
    finally:
        inbox.put_nowait(None)


async def _send(
    call: "StreamCall",
    texts: Iterable[Text] | AsyncIterable[Text],
    exchange: Exchange,
    room: asyncio.Semaphore,
) -> None:
    """Send texts as they come, whatever is there in one message, until they or the call end."""
    ready: asyncio.Queue[service_pb.CorrelatedInput | None] = asyncio.Queue()

    async def read() -> None:
        try:
            async with aclosing(_each(texts)) as each:
                async for text in each:
                    if reader.cancelling():  # but the texts went on
                        return
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
        try:
            while (first := await ready.get()) is not None:
                await call.write(exchange.message(first, more))
            await call.done_writing()
        except ENDED:  # whoever receives learns why
            return
        await reader
    finally:
        reader.cancel()
        # The texts may have something to clean up, and whoever gave them may close them next.
        await asyncio.gather(reader, return_exceptions=True)


async def _each(texts: Iterable[Text] | AsyncIterable[Text]) -> AsyncGenerator[Text]:
    if isinstance(texts, AsyncIterable):
        async for text in texts:
            yield text
    else:
        for text in texts:
            yield text
