"""The engine's observer that counts: every step, departure, refusal and cancellation of a model."""

import time
from collections.abc import Callable

from offramp.scheduler.backend import Batch
from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.errors import SchedulerError
from offramp.scheduler.request import Answer, Departure, ExitReason, Priority, Request, State
from offramp.scheduler.scheduler import Scheduler
from offramp.server.statuses import reason_of
from offramp.server.telemetry.registry import Registry, Value

PLACES = {
    State.QUEUED: "queued",
    State.WAITING: "between_stages",
    State.RUNNING: "in_a_step",
    State.RETRYING: "in_a_step",
}


class AnswerRow:
    """Where answers of one priority, exit and reason are counted, looked up once."""

    __slots__ = ("_compute", "_confidence", "_exits", "_queue", "_requests", "_total")

    def __init__(
        self, registry: Registry, model: str, priority: str, left_at: int, reason: str
    ) -> None:
        counter, histogram = registry.counter, registry.histogram
        self._requests = counter("offramp.requests").of(model, priority, "answered", left_at)
        self._exits = counter("offramp.exits").of(model, left_at, reason)
        self._confidence = histogram("offramp.exit.confidence").of(model, left_at)
        self._queue = histogram("offramp.request.queue.duration").of(model, priority)
        self._compute = histogram("offramp.request.compute.duration").of(model, priority)
        self._total = histogram("offramp.request.total.duration").of(model, priority)

    def count(self, answer: Answer) -> None:
        """Count one more answer."""
        self._requests.total += 1
        self._exits.total += 1
        self._confidence.record(answer.reading.confidence)
        self._queue.record(answer.queue)
        self._compute.record(answer.compute)
        self._total.record(answer.total)


class StageRow:
    """Where steps of one stage are counted, looked up once."""

    __slots__ = (
        "_cost_error",
        "_duration",
        "_fill_rows",
        "_fill_tokens",
        "_limits",
        "_rows",
        "_tokens",
    )

    def __init__(self, registry: Registry, model: str, stage: int, limits: SchedulerConfig) -> None:
        counter, histogram = registry.counter, registry.histogram
        self._limits = limits
        self._duration = histogram("offramp.step.duration").of(model, stage)
        self._rows = counter("offramp.step.rows").of(model, stage)
        self._tokens = counter("offramp.step.tokens").of(model, stage)
        self._fill_rows = histogram("offramp.step.fill.rows").of(model, stage)
        self._fill_tokens = histogram("offramp.step.fill.tokens").of(model, stage)
        self._cost_error = histogram("offramp.step.cost.error").of(model, stage)

    def count(self, batch: Batch, seconds: float) -> None:
        """Count one more step."""
        rows, tokens = len(batch.requests), batch.tokens
        self._duration.record(seconds)
        self._rows.total += rows
        self._tokens.total += tokens
        self._fill_rows.record(rows / self._limits.max_batch_rows)
        self._fill_tokens.record(tokens / self._limits.max_batch_tokens)
        self._cost_error.record(abs(batch.predicted - seconds) / seconds)


class ModelMetrics:
    """Counts what happens to one model's requests.

    `padding` gives the token positions computed so far beyond the tokens of requests.
    """

    def __init__(
        self,
        registry: Registry,
        model: str,
        exit_layers: tuple[int, ...],
        scheduler: Scheduler,
        padding: Callable[[], int],
    ) -> None:
        self._model = model
        self._exit_layers = exit_layers
        self._registry = registry
        self._scheduler = scheduler
        self._read_padding, self._padding_counted = padding, padding()
        self._padding = registry.counter("offramp.step.padding").of(model)
        self._layers_run = registry.counter("offramp.layers.run").of(model)
        self._layers_full = registry.counter("offramp.layers.full").of(model)
        self._tokenizer = registry.histogram("offramp.request.tokenizer.duration").of(model)
        limits = scheduler.config
        self._stages = [StageRow(registry, model, s, limits) for s in range(limits.stages)]
        self._answers: dict[tuple[Priority, int, ExitReason], AnswerRow] = {}

    def attach(self) -> None:
        """Let the gauges read this model's queue and slots, whoever they read before."""
        scheduler = self._scheduler
        for name, read in (
            ("offramp.queue.requests", lambda: scheduler.queued),
            ("offramp.queue.limit", lambda: scheduler.config.max_queue_requests),
            ("offramp.queue.tokens", lambda: scheduler.queued_tokens),
            ("offramp.queue.drain.predicted", scheduler.predicted_delay),
            ("offramp.slots.used", lambda: scheduler.slots.held),
            ("offramp.slots.limit", lambda: scheduler.slots.capacity),
        ):
            self._registry.gauge(name, read, self._model)

    def tokenized(self, seconds: float, requests: int) -> None:
        """Count the tokenizing of the requests of one message."""
        self._tokenizer.record(seconds, requests)

    def stepped(self, batch: Batch, seconds: float) -> None:
        """Count a step."""
        self._stages[batch.stage].count(batch, seconds)
        padding = self._read_padding()
        self._padding.total += padding - self._padding_counted
        self._padding_counted = padding

    def failed(self, batch: Batch, error: Exception) -> None:
        """Count a step that failed; its requests depart next."""
        self._add("offramp.step.failures", batch.stage)

    def departed(self, departure: Departure) -> None:
        """Count a request that left."""
        outcome, request = departure.outcome, departure.request
        if isinstance(outcome, SchedulerError):
            self._add("offramp.failures", reason_of(outcome))
            self._add("offramp.requests", _priority(request), "failed", None)
        else:
            self._answered(outcome, request.terms.priority)

    def refused(self, request: Request, error: SchedulerError) -> None:
        """Count a request that was not admitted."""
        self._add("offramp.rejections", reason_of(error))
        self._add("offramp.requests", _priority(request), "refused", None)

    def cancelled(self, request: Request, state: State) -> None:
        """Count a request that was given up."""
        reason = "deadline" if time.monotonic() >= request.terms.deadline else "client"
        self._add("offramp.cancellations", reason, PLACES[state])
        self._add("offramp.requests", _priority(request), "cancelled", None)

    def _answered(self, answer: Answer, priority: Priority) -> None:
        key = priority, answer.exit, answer.reason
        row = self._answers.get(key)
        if row is None:
            row = self._answers[key] = AnswerRow(
                self._registry, self._model, _name(priority), answer.exit, answer.reason.value
            )
        row.count(answer)
        self._layers_run.total += self._exit_layers[answer.exit]
        self._layers_full.total += self._exit_layers[-1]

    def _add(self, counter: str, *values: Value) -> None:
        self._registry.counter(counter).add(1, self._model, *values)


def _priority(request: Request) -> str:
    return _name(request.terms.priority)


def _name(priority: Priority) -> str:
    return priority.name.lower()
