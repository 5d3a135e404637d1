"""Exit and latency statistics through the OpenTelemetry API.

Without configuration the API's instruments do nothing. `configure` installs the SDK with the
exporters that the standard `OTEL_*` variables name.
"""

import os
from collections.abc import Iterable, Mapping

from opentelemetry import metrics
from opentelemetry.distro import OpenTelemetryConfigurator
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
)

from offramp.scheduler.backend import Batch
from offramp.scheduler.errors import SchedulerError
from offramp.scheduler.request import Answer, Departure, Request, State
from offramp.scheduler.scheduler import Scheduler
from offramp.server.statuses import reason_of

EXPORTERS = ("OTEL_METRICS_EXPORTER", "OTEL_TRACES_EXPORTER", "OTEL_LOGS_EXPORTER")
ENDPOINTS = (
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
)
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Bucket bounds from 100 µs; the SDK's own start at 5 ms."""


def configure() -> bool:
    """Install the OpenTelemetry SDK if the environment names an exporter or a collector."""
    endpoint = any(os.environ.get(name) for name in ENDPOINTS)
    if not endpoint and not any(os.environ.get(name) for name in EXPORTERS):
        return False
    for name in EXPORTERS:
        os.environ.setdefault(name, "otlp" if endpoint and "LOGS" not in name else "none")
    os.environ.setdefault("OTEL_SERVICE_NAME", "offramp")
    OpenTelemetryConfigurator().configure()  # type: ignore[no-untyped-call]
    return True


class Telemetry:
    """The engine's observer: records every departure, refusal and step of one model."""

    def __init__(self, model: str, exit_layers: tuple[int, ...], scheduler: Scheduler) -> None:
        self._model = model
        self._exit_layers = exit_layers
        self._scheduler = scheduler
        meter = metrics.get_meter("offramp")
        self._exits = meter.create_counter(
            "offramp.exits", "{request}", "Requests answered, by exit and reason"
        )
        self._layers = meter.create_counter(
            "offramp.layers.run", "{layer}", "Layers run for requests that were answered"
        )
        self._layers_full = meter.create_counter(
            "offramp.layers.full", "{layer}", "Layers that full depth would have run for them"
        )
        self._failures = meter.create_counter(
            "offramp.failures", "{request}", "Requests refused or failed, by reason"
        )
        self._durations = {
            part: meter.create_histogram(
                f"offramp.request.{part}.duration",
                "s",
                description,
                explicit_bucket_boundaries_advisory=SECONDS,
            )
            for part, description in (
                ("queue", "Time ready but not running"),
                ("compute", "Time in running steps"),
                ("total", "Time from arrival to answer"),
            )
        }
        self._steps = meter.create_histogram(
            "offramp.step.duration",
            "s",
            "Time of one step, by stage",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._rows = meter.create_counter("offramp.step.rows", "{request}", "Requests in steps")
        self._tokens = meter.create_counter("offramp.step.tokens", "{token}", "Tokens in steps")
        for name, unit, description, value in (
            ("offramp.queue.requests", "{request}", "Requests waiting for a slot", self._queued),
            ("offramp.queue.tokens", "{token}", "Tokens waiting for a slot", self._queued_tokens),
            ("offramp.slots.held", "{slot}", "Slots in use", self._held),
        ):
            meter.create_observable_gauge(name, [value], unit, description)

    def stepped(self, batch: Batch, seconds: float) -> None:
        """Record a step."""
        attributes: Mapping[str, str | int] = {
            "offramp.model": self._model,
            "offramp.stage": batch.stage,
        }
        self._steps.record(seconds, attributes)
        self._rows.add(len(batch.requests), attributes)
        self._tokens.add(batch.tokens, attributes)

    def failed(self, batch: Batch, error: Exception) -> None:
        """Ignore it: each of its requests departs."""

    def departed(self, departure: Departure) -> None:
        """Record a request that left."""
        if isinstance(departure.outcome, Answer):
            self._answered(departure.outcome)
        else:
            self._failed(departure.outcome)

    def refused(self, request: Request, error: SchedulerError) -> None:
        """Record a request that was not admitted."""
        del request
        self._failed(error)

    def cancelled(self, request: Request, state: State) -> None:
        """Ignore it."""

    def _answered(self, answer: Answer) -> None:
        model = {"offramp.model": self._model}
        exit_attributes = {
            **model,
            "offramp.exit": answer.exit,
            "offramp.exit.reason": answer.reason.value,
        }
        self._exits.add(1, exit_attributes)
        self._layers.add(self._exit_layers[answer.exit], model)
        self._layers_full.add(self._exit_layers[-1], model)
        self._durations["queue"].record(answer.queue, model)
        self._durations["compute"].record(answer.compute, model)
        self._durations["total"].record(answer.total, model)

    def _failed(self, error: SchedulerError) -> None:
        self._failures.add(1, {"offramp.model": self._model, "error.type": reason_of(error)})

    def _queued(self, _: CallbackOptions) -> Iterable[Observation]:
        yield Observation(self._scheduler.queued, {"offramp.model": self._model})

    def _queued_tokens(self, _: CallbackOptions) -> Iterable[Observation]:
        yield Observation(self._scheduler.queued_tokens, {"offramp.model": self._model})

    def _held(self, _: CallbackOptions) -> Iterable[Observation]:
        yield Observation(self._scheduler.slots.held, {"offramp.model": self._model})
