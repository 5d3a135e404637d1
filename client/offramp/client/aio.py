"""The client for asyncio programs."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, cast, overload

import grpc.aio

from offramp.client import core
from offramp.client.aio_errors import cancelled
from offramp.client.aio_stream import outcomes
from offramp.client.answer import Answer, ModelInfo
from offramp.client.channel import (
    CLOSED,
    DEFAULT_TIMEOUT,
    call_metadata,
    channel_options,
    target_of,
    timeout_of,
)
from offramp.client.core import Text
from offramp.client.errors import OfframpError, error_from_rpc
from offramp.client.exchange import Exchange, refuse_one
from offramp.client.options import Options, options_message
from offramp.client.tracing import (
    CLASSIFY_TEXT,
    GET_MODEL,
    LIST_MODELS,
    STREAM_CLASSIFY_TEXT,
    call_span,
)
from offramp.v1 import model_service_pb2 as models_pb
from offramp.v1.classifier_service_pb2_grpc import ClassifierServiceStub
from offramp.v1.model_service_pb2_grpc import ModelServiceStub

if TYPE_CHECKING:
    from offramp.v1.classifier_service_pb2_grpc import ClassifierServiceAsyncStub
    from offramp.v1.model_service_pb2_grpc import ModelServiceAsyncStub


Request = TypeVar("Request")
Response = TypeVar("Response")


class AsyncClient:
    """Calls an offramp server.

    `async with AsyncClient("localhost:50051") as client: await client.classify("a fine film")`
    """

    def __init__(
        self,
        address: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
        retries: bool = True,
    ) -> None:
        """Connect lazily to HOST:PORT; `timeout` in seconds is that of calls that name none.

        With `credentials` (such as `grpc.ssl_channel_credentials()`) the connection is TLS;
        `token`, printable ASCII, goes with every call as a bearer token. Without `retries` a
        refusal is raised at once, for callers who count them or who know better when to come
        again. A `timeout` of None or `math.inf` is no bound. Raises TypeError or ValueError.
        """
        self._address = target_of(address)
        self._metadata = call_metadata(token)
        self._timeout = timeout_of(None, timeout)
        options = channel_options(address, retries=retries)
        self._channel = (
            grpc.aio.insecure_channel(address, options)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options)
        )
        classifier, models = ClassifierServiceStub(self._channel), ModelServiceStub(self._channel)
        self._classifier = cast("ClassifierServiceAsyncStub", classifier)
        self._models = cast("ModelServiceAsyncStub", models)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address!r})"

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
        return core.answer_of(
            await self._call(CLASSIFY_TEXT, self._classifier.ClassifyText, request, timeout)
        )

    @overload
    def classify_many(
        self,
        texts: Iterable[Text] | AsyncIterable[Text],
        *,
        ordered: bool = True,
        return_errors: Literal[False] = False,
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> AsyncGenerator[Answer]: ...

    @overload
    def classify_many(
        self,
        texts: Iterable[Text] | AsyncIterable[Text],
        *,
        ordered: bool = True,
        return_errors: bool,
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> AsyncGenerator[Answer | OfframpError]: ...

    def classify_many(
        self,
        texts: Iterable[Text] | AsyncIterable[Text],
        *,
        ordered: bool = True,
        return_errors: bool = False,
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> AsyncGenerator[Answer] | AsyncGenerator[Answer | OfframpError]:
        """Classify any number of texts over one stream; at most a window of them is held.

        Answers come in the order of the texts, or with `ordered=False` as they are ready; their
        `index` says whose they are. The first text that fails ends it and raises its
        OfframpError, or with `return_errors=True` gives it in place of an answer and goes on.
        `timeout` (seconds) bounds the whole stream; without it there is no bound.
        Whoever leaves the loop early should close what this returns (`contextlib.aclosing`), so
        that the server is told at once.
        """
        refuse_one(texts)
        exchange = Exchange(options_message(options), ordered=ordered)
        return self._stream(texts, exchange, return_errors, timeout_of(timeout, None))

    async def list_models(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> tuple[ModelInfo, ...]:
        """What the server serves; the first answers requests that name no model."""
        request = models_pb.ListModelsRequest()
        response = await self._call(LIST_MODELS, self._models.ListModels, request, timeout)
        return tuple(core.model_info(model) for model in response.models)

    async def get_model(
        self,
        name: str = "",
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> ModelInfo:
        """One model by its name; the server's first without a name."""
        request = models_pb.GetModelRequest(name=name)
        response = await self._call(GET_MODEL, self._models.GetModel, request, timeout)
        return core.model_info(response.model)

    async def _call(
        self,
        name: str,
        method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]",
        request: Request,
        timeout: float | None,  # noqa: ASYNC109
    ) -> Response:
        seconds = timeout_of(timeout, self._timeout)
        with call_span(name, self._metadata) as metadata:
            try:
                return await method(request, timeout=seconds, metadata=metadata)
            except asyncio.CancelledError as error:
                raise cancelled(error) from None
            except grpc.aio.AioRpcError as error:
                raise error_from_rpc(error) from error
            except grpc.aio.UsageError as error:
                raise ValueError(CLOSED) from error

    async def _stream(
        self,
        texts: Iterable[Text] | AsyncIterable[Text],
        exchange: Exchange,
        return_errors: bool,  # noqa: FBT001
        timeout: float | None,  # noqa: ASYNC109
    ) -> AsyncGenerator[Any]:
        with call_span(STREAM_CLASSIFY_TEXT, self._metadata) as metadata:
            try:
                call = self._classifier.StreamClassifyText(  # type: ignore[call-arg]
                    timeout=timeout, metadata=metadata
                )
            except grpc.aio.UsageError as error:
                raise ValueError(CLOSED) from error
            own = outcomes(call, texts, exchange, return_errors=return_errors)
            async with aclosing(own):  # whoever closes this closes the call
                async for outcome in own:
                    yield outcome
