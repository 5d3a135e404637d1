"""The client for asyncio programs."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, cast, overload

import grpc.aio

from offramp.client import core
from offramp.client.answer import Answer, ModelInfo
from offramp.client.core import DEFAULT_TIMEOUT, INPUTS_PER_MESSAGE, WINDOW, Options, Text
from offramp.client.errors import OfframpError, error_from_call
from offramp.client.reorder import Reorder
from offramp.v1 import classification_pb2 as pb
from offramp.v1 import classifier_service_pb2 as service_pb
from offramp.v1 import model_service_pb2 as models_pb
from offramp.v1.classifier_service_pb2_grpc import ClassifierServiceStub
from offramp.v1.model_service_pb2_grpc import ModelServiceStub

if TYPE_CHECKING:
    from offramp.v1.classifier_service_pb2_grpc import ClassifierServiceAsyncStub
    from offramp.v1.model_service_pb2_grpc import ModelServiceAsyncStub

    StreamCall = grpc.aio.StreamStreamCall[
        service_pb.StreamClassifyTextRequest, service_pb.StreamClassifyTextResponse
    ]


class AsyncClient:
    """Calls an offramp server.

    `async with AsyncClient("localhost:50051") as client: await client.classify("a fine film")`
    """

    def __init__(
        self,
        address: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> None:
        """Connect lazily to HOST:PORT; `timeout` in seconds is that of calls that name none."""
        options = core.CHANNEL_OPTIONS
        self._channel = (
            grpc.aio.insecure_channel(address, options)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options)
        )
        classifier, models = ClassifierServiceStub(self._channel), ModelServiceStub(self._channel)
        self._classifier = cast("ClassifierServiceAsyncStub", classifier)
        self._models = cast("ModelServiceAsyncStub", models)
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls under way fail."""
        await self._channel.close(None)

    async def classify(
        self,
        text: str,
        text_pair: str | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the server is told of it
        **options: Unpack[Options],
    ) -> Answer:
        """Classify one text, or two that are judged together; raises OfframpError.

        The server knows of `timeout` (seconds) and answers within it as well as it can.
        """
        request = core.unary_request(text if text_pair is None else (text, text_pair), options)
        try:
            response = await self._classifier.ClassifyText(
                request, timeout=timeout or self._timeout
            )
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error
        return core.answer_of(response)

    @overload
    def classify_many(
        self,
        texts: Iterable[Text] | AsyncIterable[Text],
        *,
        ordered: bool = True,
        return_errors: Literal[False] = False,
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> AsyncIterator[Answer]: ...

    @overload
    def classify_many(
        self,
        texts: Iterable[Text] | AsyncIterable[Text],
        *,
        ordered: bool = True,
        return_errors: Literal[True],
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> AsyncIterator[Answer | OfframpError]: ...

    def classify_many(
        self,
        texts: Iterable[Text] | AsyncIterable[Text],
        *,
        ordered: bool = True,
        return_errors: bool = False,
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> AsyncIterator[Answer] | AsyncIterator[Answer | OfframpError]:
        """Classify any number of texts over one stream; at most a window of them is held.

        Answers come in the order of the texts, or with `ordered=False` as they are ready; their
        `index` says whose they are. The first text that fails ends it and raises its
        OfframpError, or with `return_errors=True` gives it in place of an answer and goes on.
        `timeout` (seconds) bounds the whole stream; without it there is no bound.
        """
        message = core.options_message(options)
        return self._stream(texts, message, Reorder(ordered=ordered), return_errors, timeout)

    async def list_models(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> tuple[ModelInfo, ...]:
        """What the server serves; the first answers requests that name no model."""
        try:
            response = await self._models.ListModels(
                models_pb.ListModelsRequest(), timeout=timeout or self._timeout
            )
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error
        return tuple(core.model_info(model) for model in response.models)

    async def get_model(
        self,
        name: str = "",
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> ModelInfo:
        """One model by its name; the server's first without a name."""
        request = models_pb.GetModelRequest(name=name)
        try:
            response = await self._models.GetModel(request, timeout=timeout or self._timeout)
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error
        return core.model_info(response.model)

    async def _stream(
        self,
        texts: Iterable[Text] | AsyncIterable[Text],
        options: pb.ClassifyOptions,
        reorder: Reorder,
        return_errors: bool,  # noqa: FBT001
        timeout: float | None,  # noqa: ASYNC109
    ) -> AsyncIterator[Any]:
        call = self._classifier.StreamClassifyText(timeout=timeout)  # type: ignore[call-arg]
        room = asyncio.Semaphore(WINDOW)
        sender = asyncio.create_task(_send(call, texts, options, room))
        try:
            async for response in call:
                for index, outcome in core.outcomes_of(response):
                    for ready in reorder.release(index, outcome):
                        room.release()
                        if isinstance(ready, OfframpError) and not return_errors:
                            raise ready
                        yield ready
            await sender
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error
        finally:
            sender.cancel()
            call.cancel()
            await asyncio.gather(sender, return_exceptions=True)


async def _send(
    call: "StreamCall",
    texts: Iterable[Text] | AsyncIterable[Text],
    options: pb.ClassifyOptions,
    room: asyncio.Semaphore,
) -> None:
    """Send texts as they come, whatever is there in one message, until they end."""
    ready: asyncio.Queue[service_pb.CorrelatedInput | None] = asyncio.Queue()

    async def read() -> None:
        index = 0
        try:
            async for text in _each(texts):
                await room.acquire()
                ready.put_nowait(core.correlated_input(index, text))
                index += 1
        finally:
            ready.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        more = True
        while more and (first := await ready.get()) is not None:
            inputs = [first]
            while more and len(inputs) < INPUTS_PER_MESSAGE and not ready.empty():
                item = ready.get_nowait()
                if item is None:
                    more = False
                else:
                    inputs.append(item)
            message = service_pb.StreamClassifyTextRequest(inputs=inputs, options=options)
            # A call that has ended takes no more; whoever reads it learns why.
            with suppress(asyncio.InvalidStateError):
                await call.write(message)
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


def _translated(error: grpc.aio.AioRpcError) -> OfframpError:
    metadata = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata())
    return error_from_call(error.code(), error.details(), metadata)
