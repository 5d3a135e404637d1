"""Around every call of ours, outermost: its time and status, and its span.

OpenTelemetry's own interceptor for grpc.aio breaks on handlers that read and write their context,
as our streams do; here they are only awaited.
"""

import asyncio
import time
from typing import cast

import grpc.aio
from google.protobuf.descriptor import MethodDescriptor
from opentelemetry.context import attach, detach
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from offramp.server.handlers import CODES, Behavior, Context
from offramp.server.statuses import reason_of, status_of
from offramp.server.telemetry.propagation import Extract, extractor
from offramp.server.telemetry.registry import Histogram, Registry
from offramp.server.telemetry.tracing import CALL_SPANS, CallSpans

SYSTEM = "grpc"
SERVER_ERRORS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""Statuses that are the server's fault and make its span an error, by the conventions."""


class CallGate:
    """Records the duration of calls and makes a span of each, as far as they are asked for."""

    def __init__(self, registry: Registry | None, tracer: Tracer | None) -> None:
        self._durations = registry.histogram("rpc.server.call.duration") if registry else None
        self._tracer = tracer
        self._extract = None if tracer is None else extractor()

    def __call__(self, method: MethodDescriptor, behavior: Behavior) -> Behavior:
        """Watch the calls of a method."""
        return _Method(method, behavior, self._durations, self._tracer, self._extract).run


class _Method:
    """The calls of one method on their way through its handler."""

    def __init__(
        self,
        method: MethodDescriptor,
        behavior: Behavior,
        durations: Histogram | None,
        tracer: Tracer | None,
        extract: Extract | None,
    ) -> None:
        self._unary = not method.client_streaming
        self._method = f"{method.containing_service.full_name}/{method.name}"
        self._behavior = behavior
        self._durations = durations
        self._tracer = tracer
        self._extract = extract

    async def run(self, request: object, context: Context) -> object:
        if self._tracer is None or self._extract is None:
            return await self._timed(request, context, None)
        metadata = context.invocation_metadata() or ()
        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        span = self._tracer.start_span(
            self._method,
            self._extract(carrier),
            SpanKind.SERVER,
            {"rpc.system.name": SYSTEM, "rpc.method": self._method},
        )
        token = attach(set_span_in_context(span))
        try:
            if span.is_recording():
                CALL_SPANS.set(CallSpans(self._tracer, span, unary=self._unary))
                return await self._timed(request, context, span)
            return await self._timed(request, context, None)
        finally:
            detach(token)
            span.end()

    async def _timed(self, request: object, context: Context, span: Span | None) -> object:
        started = time.perf_counter()
        code, error = "OK", None
        try:
            response = await self._behavior(request, context)
        except grpc.aio.AbortError as abort:
            cause = abort.__context__ or abort  # what the error table was asked about
            code, error = CODES[status_of(cause).code].name, reason_of(cause)
            raise
        except asyncio.CancelledError:
            # None of a call without a deadline, whatever its type says.
            remaining = cast("float | None", context.time_remaining())
            late = remaining is not None and remaining <= 0
            code = error = "DEADLINE_EXCEEDED" if late else "CANCELLED"
            raise
        else:
            if context.cancelled():  # a stream may see the end of its input first
                code = error = "CANCELLED"
            return response
        finally:
            if self._durations is not None:
                row = self._durations.of(SYSTEM, self._method, code, code, error)
                row.record(time.perf_counter() - started)
            if span is not None:
                _finish(span, code, error)


def _finish(span: Span, code: str, error: str | None) -> None:
    span.set_attributes({"rpc.status_code": code, "rpc.response.status_code": code})
    if error is not None:
        span.set_attribute("error.type", error)
    if code in SERVER_ERRORS:
        span.set_status(Status(StatusCode.ERROR, error))
