"""Handlers of our services, each behind the gates that every call of ours passes.

Gates are put around a method once, when it is added to the server. gRPC's server interceptors
would do the same, but where there is one grpc.aio looks every call's handler up in coroutines of
its own, and a bare echo answers a tenth fewer calls (docs/performance.md).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from offramp.server.errors import (
    MessageError,
    MessageTooLargeError,
    TooManyFieldsError,
    UndecodableError,
)
from offramp.server.statuses import TABLE, status_of, trailing_metadata
from offramp.server.telemetry.logs import Event, log_event

CODES = {code.value[0]: code for code in grpc.StatusCode}

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

Behavior: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
"""What a handler does; a stream's reads and writes its context, so it is a coroutine as well."""

LEAST_FIELD = 2
"""Bytes of a field at least."""

MOST_BITS = 63
"""Before the last byte of a number."""

Gate: TypeAlias = Callable[[MethodDescriptor, Behavior], Behavior]
"""Puts something around a method's behavior."""


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """What one message may be before it is read: its bytes, and its fields, one for each input.

    Some million inputs of nothing fit into a message and take seconds to read.
    """

    bytes: int
    fields: int


def gated_handler(
    service: ServiceDescriptor,
    servicer: object,
    gates: Sequence[Gate],
    limits: MessageLimits,
) -> "grpc.GenericRpcHandler[Any, Any]":
    """What a server needs of a service: its methods as the servicer has them, behind gates.

    The first gate is the outermost. Nothing of a message is looked at before its call has passed
    them all. One that is beyond the limits or cannot be read raises a MessageError within them, or,
    of a stream, is one when it is read.
    """
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in service.methods:
        assert method.client_streaming == method.server_streaming
        decode = _lenient(GetMessageClass(method.input_type).FromString, limits)
        behavior: Behavior = getattr(servicer, method.name)
        if not method.client_streaming:
            behavior = _decoding(decode, behavior)
        for gate in reversed(gates):
            behavior = gate(method, behavior)
        encode = GetMessageClass(method.output_type).SerializeToString
        handlers[method.name] = (
            grpc.stream_stream_rpc_method_handler(behavior, decode, encode)
            if method.client_streaming
            else grpc.unary_unary_rpc_method_handler(behavior, None, encode)
        )
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def with_status(method: MethodDescriptor, behavior: Behavior) -> Behavior:
    """Maps exceptions to statuses by the error table; logs those that are not in it.

    Whoever left while something was being sent to them is told nothing: that cancels the call.
    """
    del method

    async def run(request: object, context: Context) -> object:
        try:
            return await behavior(request, context)
        except grpc.aio.AbortError:
            raise
        except grpc.aio.InternalError as error:
            raise asyncio.CancelledError from error
        except Exception as error:  # noqa: BLE001 - whatever a handler raises
            if type(error) not in TABLE:
                log_event(Event.FAILURE, "a call failed unexpectedly", logging.ERROR, error)
            status = status_of(error)
            metadata = trailing_metadata(error, status, context.time_remaining())
            try:
                await context.abort(CODES[status.code], status.message, metadata)
            except grpc.aio.InternalError as gone:
                raise asyncio.CancelledError from gone

    return run


def _decoding(decode: Callable[[bytes], Any], behavior: Behavior) -> Behavior:
    """Read a call's one message, inside of all gates."""

    async def run(data: bytes, context: Context) -> object:
        message = decode(data)
        if isinstance(message, MessageError):
            raise message
        return await behavior(message, context)

    return run


def _lenient(deserialize: Callable[[bytes], Any], limits: MessageLimits) -> Callable[[bytes], Any]:
    """Let what can't be read reach the handler as an error instead of killing the call."""
    most = limits.fields

    def decode(data: bytes) -> Any:  # noqa: ANN401
        if len(data) > limits.bytes:
            return MessageTooLargeError(len(data), limits.bytes)
        if len(data) > LEAST_FIELD * most and _fields_exceed(data, most + 1):  # with its options
            return TooManyFieldsError(most)
        try:
            return deserialize(data)
        except DecodeError:
            return UndecodableError()

    return decode


def _fields_exceed(data: bytes, most: int) -> bool:
    """Whether a message has more fields than so many; looks no further, and into none of them."""
    at = 0
    try:
        for _ in range(most):
            if at >= len(data):
                return False
            tag, at = _varint(data, at)
            match tag & 7:
                case 0:
                    _, at = _varint(data, at)
                case 1:
                    at += 8
                case 2:
                    size, at = _varint(data, at)
                    at += size
                case 5:
                    at += 4
                case _:  # a group's fields are counted with the others
                    pass
    except IndexError:  # it ends too soon, which whoever reads it will say
        return False
    return at < len(data)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte from there, and where it ends; raises IndexError.

    None has more than 64 bits: of one that went on to the message's end the sum would take minutes.
    """
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if shift > MOST_BITS:
            raise IndexError
    return value | data[at] << shift, at + 1
