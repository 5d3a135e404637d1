"""The client for synchronous programs; safe to share between threads."""

from collections.abc import Generator, Iterable
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, overload

import grpc

from offramp.client import core
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
from offramp.client.feed import Feed
from offramp.client.options import Options, options_message
from offramp.client.sync_stream import outcomes
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

Request = TypeVar("Request")
Response = TypeVar("Response")


class Client:
    """Calls an offramp server.

    `with Client("localhost:50051") as client: client.classify("a deeply moving film").label`
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
            grpc.insecure_channel(address, options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options)
        )
        self._classifier = ClassifierServiceStub(self._channel)
        self._models = ModelServiceStub(self._channel)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way fail."""
        self._channel.close()

    def classify(
        self,
        text: str,
        text_pair: str | None = None,
        *,
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> Answer:
        """Classify one text, or two that are judged together; raises OfframpError.

        The server knows of `timeout` (seconds) and answers within it as well as it can.
        """
        request = core.unary_request(text if text_pair is None else (text, text_pair), options)
        return core.answer_of(
            self._call(CLASSIFY_TEXT, self._classifier.ClassifyText, request, timeout)
        )

    @overload
    def classify_many(
        self,
        texts: Iterable[Text],
        *,
        ordered: bool = True,
        return_errors: Literal[False] = False,
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> Generator[Answer]: ...

    @overload
    def classify_many(
        self,
        texts: Iterable[Text],
        *,
        ordered: bool = True,
        return_errors: bool,
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> Generator[Answer | OfframpError]: ...

    def classify_many(
        self,
        texts: Iterable[Text],
        *,
        ordered: bool = True,
        return_errors: bool = False,
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> Generator[Answer] | Generator[Answer | OfframpError]:
        """Classify any number of texts over one stream; at most a window of them is held.

        Answers come in the order of the texts, or with `ordered=False` as they are ready; their
        `index` says whose they are. The first text that fails ends it and raises its
        OfframpError, or with `return_errors=True` gives it in place of an answer and goes on.
        `timeout` (seconds) bounds the whole stream; without it there is no bound.
        Whoever leaves the loop early should close what this returns (`contextlib.closing`), so
        that the server is told at once.
        """
        refuse_one(texts)
        exchange = Exchange(options_message(options), ordered=ordered)
        return self._stream(texts, exchange, return_errors, timeout_of(timeout, None))

    def list_models(self, *, timeout: float | None = None) -> tuple[ModelInfo, ...]:
        """What the server serves; the first answers requests that name no model."""
        response = self._call(
            LIST_MODELS, self._models.ListModels, models_pb.ListModelsRequest(), timeout
        )
        return tuple(core.model_info(model) for model in response.models)

    def get_model(self, name: str = "", *, timeout: float | None = None) -> ModelInfo:
        """One model by its name; the server's first without a name."""
        request = models_pb.GetModelRequest(name=name)
        return core.model_info(self._call(GET_MODEL, self._models.GetModel, request, timeout).model)

    def _call(
        self,
        name: str,
        method: "grpc.UnaryUnaryMultiCallable[Request, Response]",
        request: Request,
        timeout: float | None,
    ) -> Response:
        seconds = timeout_of(timeout, self._timeout)
        with call_span(name, self._metadata) as metadata:
            try:
                return method(request, timeout=seconds, metadata=metadata)
            except grpc.RpcError as error:
                raise error_from_rpc(error) from error
            except ValueError as error:
                _refuse_closed(error)
                raise

    def _stream(
        self,
        texts: Iterable[Text],
        exchange: Exchange,
        return_errors: bool,  # noqa: FBT001
        timeout: float | None,
    ) -> Generator[Any]:
        with call_span(STREAM_CLASSIFY_TEXT, self._metadata) as metadata:
            feed = Feed(texts, exchange)
            try:
                call = self._classifier.StreamClassifyText(
                    feed.messages(), timeout=timeout, metadata=metadata
                )
            except ValueError as error:
                _refuse_closed(error)
                raise
            yield from outcomes(call, feed, exchange, return_errors=return_errors)


def _refuse_closed(error: ValueError) -> None:
    """Say in our words what gRPC says of a channel that is closed."""
    if "closed" in str(error):
        raise ValueError(CLOSED) from error
