"""Who calls a server that costs nothing: messages made beforehand, answers left as bytes."""

import asyncio
import time
from collections.abc import Sequence
from typing import cast

import grpc
import grpc.aio

from offramp.v1 import classification_pb2 as pb
from offramp.v1 import classifier_service_pb2 as service_pb

INPUTS_PER_MESSAGE = 32
IN_FLIGHT = 64
WINDOW_MESSAGES = 8
CLASSIFY = "/offramp.v1.ClassifierService/ClassifyText"
STREAM = "/offramp.v1.ClassifierService/StreamClassifyText"


async def unary_calls(
    address: str, method: str, messages: Sequence[bytes], seconds: float
) -> tuple[int, float]:
    """Calls answered with many under way, and the seconds until the last was.

    Messages were made beforehand, answers stay bytes.
    """
    done = 0
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(method, _same, _same)
        started = time.perf_counter()

        async def worker(start: int) -> None:
            nonlocal done
            at = start
            while time.perf_counter() - started < seconds:
                await call(messages[at % len(messages)])
                at += IN_FLIGHT
                done += 1

        await asyncio.gather(*(worker(start) for start in range(IN_FLIGHT)))
        return done, time.perf_counter() - started


async def unary_rate(address: str, method: str, messages: Sequence[bytes], seconds: float) -> float:
    """Calls a second with many under way."""
    calls, took = await unary_calls(address, method, messages, seconds)
    return calls / took


async def stream_rate(address: str, messages: Sequence[bytes], seconds: float) -> float:
    """Texts a second answered over one stream that is never short of messages."""
    answered = 0
    async with grpc.aio.insecure_channel(address) as channel:
        stream = channel.stream_stream(STREAM, _same, _same)()  # type: ignore[call-arg]
        room = asyncio.Semaphore(WINDOW_MESSAGES)
        started = time.perf_counter()

        async def write() -> None:
            at = 0
            while time.perf_counter() - started < seconds:
                await room.acquire()
                await stream.write(messages[at % len(messages)])
                at += 1
            await stream.done_writing()

        writer = asyncio.create_task(write())
        credit = 0
        while (answer := await stream.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            count = len(
                service_pb.StreamClassifyTextResponse.FromString(cast("bytes", answer)).results
            )
            answered += count
            credit += count
            while credit >= INPUTS_PER_MESSAGE:
                credit -= INPUTS_PER_MESSAGE
                room.release()
        await writer
        return answered / (time.perf_counter() - started)


def _same(message: bytes) -> bytes:
    return message


def unary_messages(texts: Sequence[str]) -> list[bytes]:
    """Requests of one text each."""
    return [
        service_pb.ClassifyTextRequest(inputs=[pb.TextInput(text=text)]).SerializeToString()
        for text in texts
    ]


def stream_messages(texts: Sequence[str]) -> list[bytes]:
    """Requests of a stream, full ones only."""
    return [
        service_pb.StreamClassifyTextRequest(
            inputs=[
                service_pb.CorrelatedInput(correlation_id=str(i), input=pb.TextInput(text=text))
                for i, text in enumerate(texts[at : at + INPUTS_PER_MESSAGE])
            ]
        ).SerializeToString()
        for at in range(0, len(texts) - INPUTS_PER_MESSAGE + 1, INPUTS_PER_MESSAGE)
    ]
