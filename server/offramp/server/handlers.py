"""Handlers of our services, each behind the gates that every call of ours passes.

Gates are put around a method once, when it is added to the server. gRPC's server interceptors
would do the same, but where there is one grpc.aio looks every call's handler up in coroutines of
its own, and a bare echo answers a tenth fewer calls (docs/performance.md).
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from offramp.server.errors import MessageError, MessageTooLargeError, UndecodableError
from offramp.server.statuses import TABLE, status_of, trailing_metadata
from offramp.server.telemetry.logs import Event, log_event

CODES = {code.value[0]: code for code in grpc.StatusCode}

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

Behavior: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
"""What a handler does; a stream's reads and writes its context, so it is a coroutine as well."""

Gate: TypeAlias = Callable[[MethodDescriptor, Behavior], Behavior]
"""Puts something around a method's behavior."""


def gated_handler(
    service: ServiceDescriptor,
    servicer: object,
    gates: Sequence[Gate],
    max_message_bytes: int,
) -> "grpc.GenericRpcHandler[Any, Any]":
    """What a server needs of a service: its methods as the servicer has them, behind gates.

    The first gate is the outermost. Messages of more than `max_message_bytes` and such as cannot
    be read reach the gates as a MessageError.
    """
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in service.methods:
        assert method.client_streaming == method.server_streaming
        behavior: Behavior = getattr(servicer, method.name)
        for gate in reversed(gates):
            behavior = gate(method, behavior)
        make: Callable[..., grpc.RpcMethodHandler[Any, Any]] = (
            grpc.stream_stream_rpc_method_handler
            if method.client_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        handlers[method.name] = make(
            behavior,
            request_deserializer=_lenient(
                GetMessageClass(method.input_type).FromString, max_message_bytes
            ),
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def with_status(method: MethodDescriptor, behavior: Behavior) -> Behavior:
    """Maps exceptions to statuses by the error table; logs those that are not in it."""
    del method

    async def run(request: object, context: Context) -> object:
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

    return run


def _lenient(deserialize: Callable[[bytes], Any], most: int) -> Callable[[bytes], Any]:
    """Let what can't be read reach the handler as an error instead of killing the call."""

    def decode(data: bytes) -> Any:  # noqa: ANN401
        if len(data) > most:
            return MessageTooLargeError(len(data), most)
        try:
            return deserialize(data)
        except DecodeError:
            return UndecodableError()

    return decode
