"""Everything that observes one model: its metrics, its spans, its log, its shadow."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from offramp.model.checkpoint import Checkpoint
from offramp.scheduler.backend import Batch
from offramp.scheduler.errors import SchedulerError
from offramp.scheduler.observer import Observer
from offramp.scheduler.request import Departure, Request, State, Terms
from offramp.scheduler.scheduler import Scheduler
from offramp.server.telemetry.model_log import ModelLog
from offramp.server.telemetry.model_metrics import ModelMetrics
from offramp.server.telemetry.notes import Notes
from offramp.server.telemetry.registry import Registry
from offramp.server.telemetry.setup import Telemetry
from offramp.server.telemetry.shadow import Shadow
from offramp.server.telemetry.tracing import CALL_SPANS, Tracing


def watch_model(
    telemetry: Telemetry,
    checkpoint: Checkpoint,
    scheduler: Scheduler,
    padding: Callable[[], int],
    shadow: Shadow | None,
) -> "ModelWatch":
    """Whoever must observe this model; `padding` gives the token positions wasted so far."""
    name, metrics = checkpoint.name, None
    log = ModelLog(name, scheduler)
    observers: list[Observer] = [log]
    if telemetry.registry is not None:
        layers = checkpoint.config.exit_layers
        metrics = ModelMetrics(telemetry.registry, name, layers, scheduler, padding)
        observers.append(metrics)
    if telemetry.tracer is not None:
        observers.append(Tracing(telemetry.tracer, name))
    if shadow is not None:
        observers.append(shadow)
    noting = telemetry.tracer is not None or shadow is not None or telemetry.log_texts
    return ModelWatch(
        name,
        telemetry.registry,
        log,
        observers,
        metrics,
        shadow,
        noting=noting,
        keep_texts=telemetry.log_texts,
    )


class ModelWatch:
    """The engine's observer, which tells all the others; `metrics` is one of them, if any is.

    `noting` is whether any needs a request's notes; without, none are taken.
    """

    def __init__(
        self,
        model: str,
        registry: Registry | None,
        log: ModelLog,
        observers: Sequence[Observer],
        metrics: ModelMetrics | None,
        shadow: Shadow | None,
        *,
        noting: bool,
        keep_texts: bool,
    ) -> None:
        self._model = model
        self._registry = registry
        self._log = log
        self._observers = observers
        self._metrics = metrics
        self.shadow = shadow
        self._noting = noting
        self._keep_texts = keep_texts

    @property
    def failures(self) -> int:
        """Requests that the model failed on so far."""
        return self._log.failures

    def attach(self) -> None:
        """Let the gauges of this model's name read this model and no other."""
        if self._registry is not None:
            self._registry.forget(self._model)
            if self._metrics is not None:
                self._metrics.attach()
            if self.shadow is not None:
                self.shadow.attach(self._registry)

    def tokenized(self, seconds: float, requests: int) -> None:
        """The requests of one message were tokenized."""
        if self._metrics is not None:
            self._metrics.tokenized(seconds, requests)

    def guarded(self, terms: Terms) -> Terms:
        """The terms of a request that leaves the threshold to the server."""
        guard = self.shadow.guard if self.shadow is not None else 0.0
        return replace(terms, threshold=guard) if guard > terms.threshold else terms

    def notes(
        self, text: str, tokens: int, asked: float, arrived: float, *, alone: bool
    ) -> Notes | None:
        """The notes of a request that was just tokenized; `alone` if its message has no other."""
        if not self._noting:
            return None
        spans = CALL_SPANS.get()
        span, owned = spans.take(arrived, alone=alone) if spans else (None, False)
        if span is None and self.shadow is None and not self._keep_texts:
            return None
        if span is not None:
            span.add_event("tokenized", {"offramp.tokens": tokens})
        return Notes(asked, span, owned, text if self._keep_texts else None)

    def close(self) -> None:
        """Nothing more will happen to this model."""
        self._log.close()

    def stepped(self, batch: Batch, seconds: float) -> None:
        """A batch ran."""
        for observer in self._observers:
            observer.stepped(batch, seconds)

    def failed(self, batch: Batch, error: Exception) -> None:
        """A batch failed."""
        for observer in self._observers:
            observer.failed(batch, error)

    def departed(self, departure: Departure) -> None:
        """A request left."""
        for observer in self._observers:
            observer.departed(departure)

    def refused(self, request: Request, error: SchedulerError) -> None:
        """A request was not admitted."""
        for observer in self._observers:
            observer.refused(request, error)

    def cancelled(self, request: Request, state: State) -> None:
        """A request was given up."""
        for observer in self._observers:
            observer.cancelled(request, state)
