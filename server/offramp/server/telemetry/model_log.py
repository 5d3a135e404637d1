"""The engine's observer that writes lines: one for a failure, one for an overload's end."""

import logging
import time
from contextlib import nullcontext

from opentelemetry.trace import use_span

from offramp.scheduler.backend import Batch
from offramp.scheduler.errors import QueueFullError, SchedulerError, StepFailedError
from offramp.scheduler.observer import NullObserver
from offramp.scheduler.request import Departure, Request
from offramp.scheduler.scheduler import Scheduler
from offramp.server.telemetry.logs import Event, log_event
from offramp.server.telemetry.notes import notes_of

RECOVERED = 0.5
"""Share of the queue's room below which an overload is over."""
TEXT_LENGTH = 200


class ModelLog(NullObserver):
    """Writes about one model.

    An episode of overload lasts from the first refusal by a full queue until the queue is half
    empty; then it is told, once, how long it was and how many were refused.
    """

    def __init__(self, model: str, scheduler: Scheduler) -> None:
        self._model = model
        self._scheduler = scheduler
        self.failures = 0
        """Requests that the model failed on so far."""
        self._refused = 0
        self._overloaded_since = 0.0

    def refused(self, request: Request, error: SchedulerError) -> None:
        """Begin an episode of overload, or note one more refusal of it."""
        if isinstance(error, QueueFullError):
            if not self._refused:
                self._overloaded_since = time.monotonic()
            self._refused += 1

    def stepped(self, batch: Batch, seconds: float) -> None:
        """End an episode if the queue has recovered."""
        if self._refused:
            config = self._scheduler.config
            if self._scheduler.queued < RECOVERED * config.max_queue_requests and (
                self._scheduler.queued_tokens < RECOVERED * config.max_queue_tokens
            ):
                self.close()

    def close(self) -> None:
        """End an episode, if there is one, whatever the queue says."""
        if self._refused:
            log_event(
                Event.OVERLOAD,
                "the queue was full for a while",
                logging.WARNING,
                model=self._model,
                refused=self._refused,
                seconds=round(time.monotonic() - self._overloaded_since, 3),
            )
            self._refused = 0

    def departed(self, departure: Departure) -> None:
        """Tell of a request that failed by itself, within its trace.

        A batch that fails is run again in halves, so whoever caused it comes to be alone.
        """
        request, outcome = departure.request, departure.outcome
        if not isinstance(outcome, StepFailedError):
            return
        self.failures += 1
        notes = notes_of(request.context)
        span, text = (notes.span, notes.text) if notes is not None else (None, None)
        with use_span(span) if span is not None else nullcontext():
            log_event(
                Event.FAILURE,
                "a step failed; its request gets no answer",
                logging.ERROR,
                outcome.__cause__,
                model=self._model,
                stage=request.stage,
                **({} if text is None else {"text": text[:TEXT_LENGTH]}),
            )
