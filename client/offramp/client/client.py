"""The client for synchronous programs; safe to share between threads."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Literal, Self, Unpack, cast, overload

import grpc

from offramp.client import core
from offramp.client.answer import Answer, ModelInfo
from offramp.client.core import DEFAULT_TIMEOUT, Options, Text
from offramp.client.errors import OfframpError, error_from_call
from offramp.client.feed import Feed
from offramp.client.reorder import Reorder
from offramp.v1 import classification_pb2 as pb
from offramp.v1 import model_service_pb2 as models_pb
from offramp.v1.classifier_service_pb2_grpc import ClassifierServiceStub
from offramp.v1.model_service_pb2_grpc import ModelServiceStub


class Client:
    """Calls an offramp server.

    `with Client("localhost:50051") as client: client.classify("a deeply moving film").label`
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
            grpc.insecure_channel(address, options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options)
        )
        self._classifier = ClassifierServiceStub(self._channel)
        self._models = ModelServiceStub(self._channel)
        self._timeout = timeout

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
        try:
            response = self._classifier.ClassifyText(request, timeout=timeout or self._timeout)
        except grpc.RpcError as error:
            raise _translated(error) from error
        return core.answer_of(response)

    @overload
    def classify_many(
        self,
        texts: Iterable[Text],
        *,
        ordered: bool = True,
        return_errors: Literal[False] = False,
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> Iterator[Answer]: ...

    @overload
    def classify_many(
        self,
        texts: Iterable[Text],
        *,
        ordered: bool = True,
        return_errors: Literal[True],
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> Iterator[Answer | OfframpError]: ...

    def classify_many(
        self,
        texts: Iterable[Text],
        *,
        ordered: bool = True,
        return_errors: bool = False,
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> Iterator[Answer] | Iterator[Answer | OfframpError]:
        """Classify any number of texts over one stream; at most a window of them is held.

        Answers come in the order of the texts, or with `ordered=False` as they are ready; their
        `index` says whose they are. The first text that fails ends it and raises its
        OfframpError, or with `return_errors=True` gives it in place of an answer and goes on.
        `timeout` (seconds) bounds the whole stream; without it there is no bound.
        """
        message = core.options_message(options)
        return self._stream(texts, message, Reorder(ordered=ordered), return_errors, timeout)

    def list_models(self, *, timeout: float | None = None) -> tuple[ModelInfo, ...]:
        """What the server serves; the first answers requests that name no model."""
        try:
            response = self._models.ListModels(
                models_pb.ListModelsRequest(), timeout=timeout or self._timeout
            )
        except grpc.RpcError as error:
            raise _translated(error) from error
        return tuple(core.model_info(model) for model in response.models)

    def get_model(self, name: str = "", *, timeout: float | None = None) -> ModelInfo:
        """One model by its name; the server's first without a name."""
        request = models_pb.GetModelRequest(name=name)
        try:
            response = self._models.GetModel(request, timeout=timeout or self._timeout)
        except grpc.RpcError as error:
            raise _translated(error) from error
        return core.model_info(response.model)

    def _stream(
        self,
        texts: Iterable[Text],
        options: pb.ClassifyOptions,
        reorder: Reorder,
        return_errors: bool,  # noqa: FBT001
        timeout: float | None,
    ) -> Iterator[Any]:
        feed = Feed(texts, options)
        call = self._classifier.StreamClassifyText(feed.messages(), timeout=timeout)
        try:
            for response in call:
                for index, outcome in core.outcomes_of(response):
                    for ready in reorder.release(index, outcome):
                        feed.answered()
                        if isinstance(ready, OfframpError) and not return_errors:
                            raise ready
                        yield ready
            if feed.error is not None:
                raise feed.error
        except grpc.RpcError as error:
            raise _translated(error) from error
        finally:
            feed.close()
            call.cancel()  # type: ignore[no-untyped-call]


def _translated(error: grpc.RpcError) -> OfframpError:
    call = cast("grpc.Call", error)  # what a stub raises is both
    return error_from_call(call.code(), call.details(), call.trailing_metadata())
