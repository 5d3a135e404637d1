"""Spans: what happened to a request, on its call's span or one of its own, and one for each step.

A unary call with one input is one span with the events of that input. Inputs of a stream, or of a
message with several, get child spans of the call's, up to a bound. A step belongs to all of its
requests: its span is a child of the first sampled one, so that it is kept whenever one of them
is, and linked to all of them; each of theirs is linked back to it.
"""

import time
from contextvars import ContextVar
from math import isnan

from opentelemetry.trace import Link, Span, Status, StatusCode, Tracer, set_span_in_context

from offramp.scheduler.backend import Batch
from offramp.scheduler.errors import SchedulerError
from offramp.scheduler.observer import NullObserver
from offramp.scheduler.request import Answer, Departure, Request, State
from offramp.server.statuses import reason_of
from offramp.server.telemetry.notes import notes_of

SPANS_PER_CALL = 128
LINKS_PER_STEP = 32
NANO = 1e9


class CallSpans:
    """The spans that the requests of one call may have."""

    def __init__(self, tracer: Tracer, span: Span, *, unary: bool) -> None:
        self._tracer = tracer
        self._span = span
        self._unary = unary
        self._left = SPANS_PER_CALL

    def take(self, arrived: float, *, alone: bool) -> tuple[Span | None, bool]:
        """A request's span and whether it is its own; `arrived` is on the monotonic clock."""
        if self._unary and alone:
            return self._span, False
        if not self._left:
            return None, False
        self._left -= 1
        started = time.time_ns() - int((time.monotonic() - arrived) * NANO)
        parent = set_span_in_context(self._span)
        return self._tracer.start_span("offramp.classify", parent, start_time=started), True


CALL_SPANS: ContextVar[CallSpans | None] = ContextVar("offramp_call_spans", default=None)
"""Of the call that is being handled, if it is sampled."""


class Tracing(NullObserver):
    """The engine's observer that writes spans."""

    def __init__(self, tracer: Tracer, model: str) -> None:
        self._tracer = tracer
        self._model = model

    def stepped(self, batch: Batch, seconds: float) -> None:
        """Write a step that ran."""
        self._step(batch, seconds, None)

    def failed(self, batch: Batch, error: Exception) -> None:
        """Write a step that failed."""
        self._step(batch, max(0.0, time.monotonic() - batch.started), error)

    def departed(self, departure: Departure) -> None:
        """Write how a request left."""
        request, outcome = departure.request, departure.outcome
        notes = notes_of(request.context)
        if notes is None or notes.span is None:
            return
        if isinstance(outcome, Answer):
            notes.span.set_attributes(
                {
                    "offramp.model": self._model,
                    "offramp.exit": outcome.exit,
                    "offramp.exit.reason": outcome.reason.value,
                    "offramp.confidence": outcome.reading.confidence,
                    "offramp.threshold": outcome.threshold,
                    "offramp.tokens": request.tokens,
                    "offramp.queue.duration": outcome.queue,
                    "offramp.compute.duration": outcome.compute,
                }
            )
            _end(request)
        else:
            self._fail(request, reason_of(outcome))

    def refused(self, request: Request, error: SchedulerError) -> None:
        """Write that a request was not admitted."""
        self._fail(request, reason_of(error))

    def cancelled(self, request: Request, state: State) -> None:
        """Write that a request was given up."""
        self._fail(request, "CANCELLED")

    def _step(self, batch: Batch, seconds: float, error: Exception | None) -> None:
        spans = [
            (request, notes.span)
            for request in batch.requests
            if (notes := notes_of(request.context)) is not None and notes.span is not None
        ]
        if not spans:
            return
        ended = time.time_ns()
        started = ended - int(seconds * NANO)
        step = self._tracer.start_span(
            "offramp.step",
            set_span_in_context(spans[0][1]),
            attributes={
                "offramp.model": self._model,
                "offramp.stage": batch.stage,
                "offramp.step.rows": len(batch.requests),
                "offramp.step.tokens": batch.tokens,
                "offramp.step.predicted": batch.predicted,
            },
            links=[Link(span.get_span_context()) for _, span in spans[:LINKS_PER_STEP]],
            start_time=started,
        )
        if error is not None:
            step.record_exception(error)
            step.set_status(Status(StatusCode.ERROR, type(error).__name__))
        step.end(ended)
        for request, span in spans:
            if not span.is_recording():
                continue  # it ended before its step did: cancelled
            span.add_link(step.get_span_context())
            if batch.stage == 0:
                span.add_event("admitted", {"offramp.slot": request.slot}, started)
            reading = request.reading
            if error is None and reading is not None and not isnan(reading.score):
                left = {
                    "offramp.stage": batch.stage,
                    "offramp.confidence": reading.confidence,
                    "offramp.step.rows": len(batch.requests),
                }
                span.add_event("stage left", left, ended)

    def _fail(self, request: Request, reason: str) -> None:
        notes = notes_of(request.context)
        if notes is not None and notes.span is not None:
            notes.span.set_attributes({"offramp.model": self._model, "error.type": reason})
            if notes.owned:
                notes.span.set_status(Status(StatusCode.ERROR, reason))
            _end(request)


def _end(request: Request) -> None:
    notes = notes_of(request.context)
    if notes is not None and notes.span is not None and notes.owned:
        notes.span.end()
