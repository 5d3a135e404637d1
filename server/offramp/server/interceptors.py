"""Around every call of ours: what a handler raises becomes a status, once and in one place."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from offramp.server.errors import MessageError, MessageTooLargeError, UndecodableError
from offramp.server.statuses import TABLE, status_of, trailing_metadata
from offramp.server.telemetry.logs import Event, log_event

PREFIX = "/offramp.v1."
CODES = {code.value[0]: code for code in grpc.StatusCode}

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ErrorInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Maps exceptions to statuses by the error table; logs those that are not in it.

    Our handlers are coroutines, streams too (they read and write their context), so one wrapper
    serves both kinds. Messages of more than `max_message_bytes` are refused unread.
    """

    def __init__(self, max_message_bytes: int) -> None:
        self._most = max_message_bytes
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Awaitable[Handler | None]"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler of a method of ours, leave others alone."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(PREFIX):
            return cast("Handler", handler)  # None is a method that nobody implements
        before, wrapped = self._wrapped.get(handler_call_details.method, (None, handler))
        if before is not handler:
            wrapped = self._wrap(handler)
            self._wrapped[handler_call_details.method] = handler, wrapped
        return wrapped

    def _wrap(self, handler: Handler) -> Handler:
        make, behavior = (
            (grpc.unary_unary_rpc_method_handler, handler.unary_unary)
            if handler.unary_unary is not None
            else (grpc.stream_stream_rpc_method_handler, handler.stream_stream)
        )
        return make(
            _guarded(behavior),
            request_deserializer=_lenient(handler.request_deserializer, self._most),
            response_serializer=handler.response_serializer,
        )


def _lenient(deserialize: Callable[[bytes], Any] | None, most: int) -> Callable[[bytes], Any]:
    """Let what can't be read reach the handler as an error instead of killing the call."""
    assert deserialize is not None

    def decode(data: bytes) -> Any:  # noqa: ANN401
        if len(data) > most:
            return MessageTooLargeError(len(data), most)
        try:
            return deserialize(data)
        except DecodeError:
            return UndecodableError()

    return decode


def _guarded(behavior: Any) -> Any:  # noqa: ANN401 - typed for threads, here a coroutine
    async def guarded(request: object, context: Context) -> object:
        try:
            if isinstance(request, MessageError):
                raise request  # noqa: TRY301
            return await behavior(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler raises
            if type(error) not in TABLE:
                log_event(Event.FAILURE, "a call failed unexpectedly", logging.ERROR, error)
            status = status_of(error)
            await context.abort(
                CODES[status.code], status.message, trailing_metadata(error, status)
            )

    return guarded
