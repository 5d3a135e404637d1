"""Every metric of the server: its stable name, kind, unit (UCUM), attributes and meaning.

docs/telemetry.md shows this as a table, and the dashboard, the alert rules and `offramp watch`
ask for these names; tests hold all of them against what a server really sends. Attributes are of
bounded cardinality: models, exits, stages and a few fixed words.
"""

from dataclasses import dataclass
from enum import StrEnum

MODEL, PRIORITY, EXIT, STAGE = "offramp.model", "offramp.priority", "offramp.exit", "offramp.stage"
ERROR = "error.type"

SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
)  # fmt: skip
"""Bucket bounds from 100 µs; the SDK's own start at 5 ms."""
CONFIDENCES = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.999)
FILLS = (0.03125, 0.0625, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
ERRORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)


SUFFIXES = {"s": "_seconds", "By": "_bytes"}
"""What Prometheus appends for a unit. Of `1` in a gauge a collector makes `_ratio` where the SDK
appends nothing, so gauges have annotations as `{share}`, of which both make nothing."""


class Kind(StrEnum):
    """How a metric adds up."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `bounds` are the upper bounds of a histogram's buckets."""

    name: str
    kind: Kind
    unit: str
    attributes: tuple[str, ...]
    description: str
    bounds: tuple[float, ...] = ()

    @property
    def prometheus(self) -> str:
        """Its name in Prometheus; a histogram's series append `_bucket`, `_sum` and `_count`."""
        name = self.name.replace(".", "_") + SUFFIXES.get(self.unit, "")
        return f"{name}_total" if self.kind is Kind.COUNTER else name


def _counter(name: str, unit: str, attributes: tuple[str, ...], description: str) -> Metric:
    return Metric(name, Kind.COUNTER, unit, attributes, description)


def _gauge(name: str, unit: str, attributes: tuple[str, ...], description: str) -> Metric:
    return Metric(name, Kind.GAUGE, unit, attributes, description)


def _seconds(name: str, attributes: tuple[str, ...], description: str) -> Metric:
    return Metric(name, Kind.HISTOGRAM, "s", attributes, description, SECONDS)


def _ratio(
    name: str, attributes: tuple[str, ...], description: str, bounds: tuple[float, ...]
) -> Metric:
    return Metric(name, Kind.HISTOGRAM, "1", attributes, description, bounds)


RPC_ATTRIBUTES = (
    "rpc.system.name", "rpc.method", "rpc.status_code", "rpc.response.status_code", ERROR,
)  # fmt: skip
"""The semantic conventions of RPC; they renamed `rpc.status_code` to `rpc.response.status_code`,
and both are sent."""

CATALOG: tuple[Metric, ...] = (
    _seconds("rpc.server.call.duration", RPC_ATTRIBUTES, "Time of a call; a stream is one call"),
    _counter(
        "offramp.requests", "{request}", (MODEL, PRIORITY, "offramp.outcome", EXIT),
        "Requests that left: answered (with their exit), refused, failed or cancelled",
    ),
    _seconds("offramp.request.tokenizer.duration", (MODEL,), "Time in the tokenizer and its queue"),
    _seconds(
        "offramp.request.queue.duration", (MODEL, PRIORITY),
        "Time ready but not running, before the first stage and between stages",
    ),
    _seconds("offramp.request.compute.duration", (MODEL, PRIORITY), "Time in running steps"),
    _seconds("offramp.request.total.duration", (MODEL, PRIORITY), "Time from arrival to answer"),
    _counter(
        "offramp.exits", "{request}", (MODEL, EXIT, "offramp.exit.reason"),
        "Requests answered: confident, final, deadline, limit or overload",
    ),
    _ratio("offramp.exit.confidence", (MODEL, EXIT), "Confidence of answers", CONFIDENCES),
    _counter("offramp.layers.run", "{layer}", (MODEL,), "Layers run for answered requests"),
    _counter("offramp.layers.full", "{layer}", (MODEL,), "Layers at full depth for the same"),
    _counter(
        "offramp.rejections", "{request}", (MODEL, ERROR), "Requests refused at the door"
    ),
    _counter(
        "offramp.invalid", "{request}", (ERROR,),
        "Texts that no model can take: without words, for a model that is not served",
    ),
    _counter("offramp.failures", "{request}", (MODEL, ERROR), "Requests admitted but not answered"),
    _counter(
        "offramp.cancellations", "{request}", (MODEL, "offramp.cancel.reason", "offramp.state"),
        "Requests given up by the client or at its deadline, by where they were",
    ),
    _counter(
        "offramp.swaps", "{swap}", (MODEL, "offramp.outcome"),
        "Times that a checkpoint was read again: swapped, unchanged or failed",
    ),
    _gauge("offramp.queue.requests", "{request}", (MODEL,), "Requests waiting for a slot"),
    _gauge("offramp.queue.limit", "{request}", (MODEL,), "Requests that may wait for a slot"),
    _gauge("offramp.queue.tokens", "{token}", (MODEL,), "Tokens waiting for a slot"),
    _gauge(
        "offramp.queue.drain.predicted", "s", (MODEL,),
        "Time to work off all that waits, by prediction; the number to autoscale on",
    ),
    _gauge("offramp.slots.used", "{slot}", (MODEL,), "Slots held"),
    _gauge("offramp.slots.limit", "{slot}", (MODEL,), "Slots there are"),
    _seconds("offramp.step.duration", (MODEL, STAGE), "Time of a step"),
    _counter("offramp.step.rows", "{request}", (MODEL, STAGE), "Requests in steps"),
    _counter("offramp.step.tokens", "{token}", (MODEL, STAGE), "Tokens in steps"),
    _ratio("offramp.step.fill.rows", (MODEL, STAGE), "Rows of the most a batch may have", FILLS),
    _ratio(
        "offramp.step.fill.tokens", (MODEL, STAGE),
        "Tokens of the most a batch may have; one long request may exceed it", FILLS,
    ),
    _counter(
        "offramp.step.padding", "{token}", (MODEL,),
        "Token positions computed beyond the tokens of the requests: on a CPU at most 7 a step",
    ),
    _counter("offramp.step.failures", "{step}", (MODEL, STAGE), "Steps that failed"),
    _ratio(
        "offramp.step.cost.error", (MODEL, STAGE),
        "Predicted against measured time of a step: their difference over the measured", ERRORS,
    ),
    _seconds("offramp.event_loop.lag", (), "How late the event loop runs what is due"),
    _gauge(
        "offramp.device.memory.used", "By", ("offramp.device",),
        "Memory used: resident on a CPU, reserved by torch on a GPU",
    ),
    _gauge(
        "offramp.device.memory.limit", "By", ("offramp.device",),
        "Memory of the device, or that a control group allows if it is less",
    ),
    _counter(
        "offramp.shadow.comparisons", "{request}", (MODEL, EXIT, "offramp.shadow.agrees"),
        "Answers of early exits compared with full depth's",
    ),
    _gauge("offramp.shadow.waiting", "{request}", (MODEL,), "Requests to be compared when idle"),
    _gauge(
        "offramp.shadow.agreement", "{share}", (MODEL, EXIT),
        "Share of recent answers equal to full depth's, by exit and for `all` requests",
    ),
    _gauge("offramp.shadow.agreement.lower", "{share}", (MODEL, EXIT), "Its interval's lower end"),
    _gauge("offramp.shadow.agreement.upper", "{share}", (MODEL, EXIT), "Its interval's upper end"),
    _gauge(
        "offramp.shadow.promise", "{share}", (MODEL,),
        "Agreement that the checkpoint's table tells",
    ),
    _gauge("offramp.shadow.drift", "{flag}", (MODEL,), "1 while the interval is below the promise"),
    _gauge(
        "offramp.shadow.guard.threshold", "{threshold}", (MODEL,), "The default threshold in force"
    ),
)  # fmt: skip

BY_NAME = {metric.name: metric for metric in CATALOG}
