"""The engine's observer that counts: every step, departure, refusal and cancellation of a model."""

import time
from collections.abc import Callable

from offramp.scheduler.backend import Batch
from offramp.scheduler.errors import SchedulerError
from offramp.scheduler.request import Answer, Departure, Request, State
from offramp.scheduler.scheduler import Scheduler
from offramp.server.statuses import reason_of
from offramp.server.telemetry.registry import Registry

PLACES = {
    State.QUEUED: "queued",
    State.WAITING: "between_stages",
    State.RUNNING: "in_a_step",
    State.RETRYING: "in_a_step",
}


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
        self._limits = scheduler.config
        self._registry = registry
        counter, histogram = registry.counter, registry.histogram
        self._requests = counter("offramp.requests")
        self._exits = counter("offramp.exits")
        self._layers_run, self._layers_full = (
            counter("offramp.layers.run"),
            counter("offramp.layers.full"),
        )
        self._rejections = counter("offramp.rejections")
        self._failures = counter("offramp.failures")
        self._cancellations = counter("offramp.cancellations")
        self._rows, self._tokens = counter("offramp.step.rows"), counter("offramp.step.tokens")
        counter("offramp.step.padding").read(padding, model)
        self._step_failures = counter("offramp.step.failures")
        self._tokenizer = histogram("offramp.request.tokenizer.duration").of(model)
        self._queue = histogram("offramp.request.queue.duration")
        self._compute = histogram("offramp.request.compute.duration")
        self._total = histogram("offramp.request.total.duration")
        stages = range(scheduler.config.stages)
        self._confidence = [histogram("offramp.exit.confidence").of(model, s) for s in stages]
        self._durations = [histogram("offramp.step.duration").of(model, s) for s in stages]
        self._fill_rows = [histogram("offramp.step.fill.rows").of(model, s) for s in stages]
        self._fill_tokens = [histogram("offramp.step.fill.tokens").of(model, s) for s in stages]
        self._cost_error = [histogram("offramp.step.cost.error").of(model, s) for s in stages]
        for name, read in (
            ("offramp.queue.requests", lambda: scheduler.queued),
            ("offramp.queue.limit", lambda: scheduler.config.max_queue_requests),
            ("offramp.queue.tokens", lambda: scheduler.queued_tokens),
            ("offramp.queue.drain.predicted", scheduler.predicted_delay),
            ("offramp.slots.used", lambda: scheduler.slots.held),
            ("offramp.slots.limit", lambda: scheduler.slots.capacity),
        ):
            registry.gauge(name, read, model)

    def tokenized(self, seconds: float, requests: int) -> None:
        """Count the tokenizing of the requests of one message."""
        self._tokenizer.record(seconds, requests)

    def stepped(self, batch: Batch, seconds: float) -> None:
        """Count a step."""
        stage, rows, tokens = batch.stage, len(batch.requests), batch.tokens
        self._durations[stage].record(seconds)
        self._rows.add(rows, self._model, stage)
        self._tokens.add(tokens, self._model, stage)
        self._fill_rows[stage].record(rows / self._limits.max_batch_rows)
        self._fill_tokens[stage].record(tokens / self._limits.max_batch_tokens)
        self._cost_error[stage].record(abs(batch.predicted - seconds) / seconds)

    def failed(self, batch: Batch, error: Exception) -> None:
        """Count a step that failed; its requests depart next."""
        self._step_failures.add(1, self._model, batch.stage)

    def departed(self, departure: Departure) -> None:
        """Count a request that left."""
        outcome, priority = departure.outcome, _priority(departure.request)
        if isinstance(outcome, SchedulerError):
            self._failures.add(1, self._model, reason_of(outcome))
            self._requests.add(1, self._model, priority, "failed", None)
            return
        self._answered(outcome, priority)

    def refused(self, request: Request, error: SchedulerError) -> None:
        """Count a request that was not admitted."""
        self._rejections.add(1, self._model, reason_of(error))
        self._requests.add(1, self._model, _priority(request), "refused", None)

    def cancelled(self, request: Request, state: State) -> None:
        """Count a request that was given up."""
        reason = "deadline" if time.monotonic() >= request.terms.deadline else "client"
        self._cancellations.add(1, self._model, reason, PLACES[state])
        self._requests.add(1, self._model, _priority(request), "cancelled", None)

    def _answered(self, answer: Answer, priority: str) -> None:
        model, left_at = self._model, answer.exit
        self._requests.add(1, model, priority, "answered", left_at)
        self._exits.add(1, model, left_at, answer.reason.value)
        self._layers_run.add(self._exit_layers[left_at], model)
        self._layers_full.add(self._exit_layers[-1], model)
        self._confidence[left_at].record(answer.reading.confidence)
        self._queue.of(model, priority).record(answer.queue)
        self._compute.of(model, priority).record(answer.compute)
        self._total.of(model, priority).record(answer.total)


def _priority(request: Request) -> str:
    return request.terms.priority.name.lower()
