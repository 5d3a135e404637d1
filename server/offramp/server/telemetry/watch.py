"""Everything that observes one model: its metrics, its spans, its log, its shadow."""

from collections.abc import Callable, Sequence

from offramp.model.checkpoint import Checkpoint
from offramp.scheduler.backend import Batch
from offramp.scheduler.errors import SchedulerError
from offramp.scheduler.observer import Observer
from offramp.scheduler.request import Departure, Request, State, Terms
from offramp.scheduler.scheduler import Scheduler
from offramp.server.telemetry.model_log import ModelLog
from offramp.server.telemetry.model_metrics import ModelMetrics
from offramp.server.telemetry.notes import Notes
from offramp.server.telemetry.setup import Telemetry
from offramp.server.telemetry.tracing import CALL_SPANS, Tracing


def watch_model(
    telemetry: Telemetry, checkpoint: Checkpoint, scheduler: Scheduler, positions: Callable[[], int]
) -> "ModelWatch":
    """Whoever must observe this model; `positions` gives the token positions of the last step."""
    name, metrics = checkpoint.name, None
    log = ModelLog(name, scheduler)
    observers: list[Observer] = [log]
    if telemetry.registry is not None:
        layers = checkpoint.config.exit_layers
        metrics = ModelMetrics(telemetry.registry, name, layers, scheduler, positions)
        observers.append(metrics)
    if telemetry.tracer is not None:
        observers.append(Tracing(telemetry.tracer, name))
    noting = telemetry.tracer is not None or telemetry.log_texts
    return ModelWatch(log, observers, metrics, noting=noting, keep_texts=telemetry.log_texts)


class ModelWatch:
    """The engine's observer, which tells all the others; `metrics` is one of them, if any is.

    `noting` is whether any needs a request's notes; without, none are taken.
    """

    def __init__(
        self,
        log: ModelLog,
        observers: Sequence[Observer],
        metrics: ModelMetrics | None,
        *,
        noting: bool,
        keep_texts: bool,
    ) -> None:
        self._log = log
        self._observers = observers
        self._metrics = metrics
        self._noting = noting
        self._keep_texts = keep_texts

    def tokenized(self, seconds: float, requests: int) -> None:
        """The requests of one message were tokenized."""
        if self._metrics is not None:
            self._metrics.tokenized(seconds, requests)

    def notes(
        self, text: str, tokens: int, terms: Terms, arrived: float, *, alone: bool
    ) -> Notes | None:
        """The notes of a request that was just tokenized; `alone` if its message has no other."""
        if not self._noting:
            return None
        spans = CALL_SPANS.get()
        span, owned = spans.take(arrived, alone=alone) if spans else (None, False)
        if span is not None:
            span.add_event("tokenized", {"offramp.tokens": tokens})
        return Notes(terms.threshold, span, owned, text if self._keep_texts else None)

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
