"""Log lines: an event with its attributes and the ids of the trace it belongs to.

A line goes to standard error, as text or as a JSON object, and to OTLP where logs are exported.
There is one each for a start, a stop, a model loaded, a swap, an episode of overload, a drift, and
a failure. Texts are in none of them unless that was switched on.
"""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider

Attributes = Mapping[str, Any]

SEVERITIES = {
    logging.DEBUG: SeverityNumber.DEBUG,
    logging.INFO: SeverityNumber.INFO,
    logging.WARNING: SeverityNumber.WARN,
    logging.ERROR: SeverityNumber.ERROR,
    logging.CRITICAL: SeverityNumber.FATAL,
}

log = logging.getLogger("offramp")


class Event(StrEnum):
    """What a line may be about."""

    START = "offramp.start"
    STOP = "offramp.stop"
    LOAD = "offramp.load"
    SWAP = "offramp.swap"
    OVERLOAD = "offramp.overload"
    FAILURE = "offramp.failure"
    LOST = "offramp.lost"
    DRIFT = "offramp.drift"
    GUARD = "offramp.guard"


class LogFormat(StrEnum):
    """How lines on standard error look."""

    TEXT = "text"
    JSON = "json"


def log_event(
    event: Event,
    message: str,
    level: int = logging.INFO,
    error: BaseException | None = None,
    **attributes: object,
) -> None:
    """Write one line about an event; attributes are named in it as here, if they are not None."""
    told = {name: value for name, value in attributes.items() if value is not None}
    extra = {"event": event.value, "attributes": told}
    log.log(level, message, exc_info=error, extra=extra)


def configure_logging(form: LogFormat, provider: LoggerProvider | None) -> None:
    """Send the lines of this process to standard error, and to a provider if there is one."""
    stream = logging.StreamHandler()
    stream.setFormatter(JsonFormatter() if form is LogFormat.JSON else TextFormatter())
    handlers: list[logging.Handler] = [stream]
    if provider is not None:
        handlers.append(OtlpHandler(provider))
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
    # Nobody reads baggage here; a warning of a wrong one holds what a caller, any caller, wrote.
    logging.getLogger("opentelemetry.baggage").setLevel(logging.ERROR)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether what gRPC logs is more than that a call was gone when it was answered."""
    return not record.getMessage().startswith("ExecuteBatchError raised in core")


class TextFormatter(logging.Formatter):
    """A line for a person: time, process, level, event, message, attributes, trace."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s [%(process)d] %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The message, and behind it the attributes and the ids of its trace."""
        told = {**_attributes(record), **_trace_ids()}
        words = [f"{name}={value}" for name, value in told.items()]
        event = getattr(record, "event", None)
        if event is not None:
            record.message = f"{event}: {record.message}"
        return " ".join([super().formatMessage(record), *words])


class JsonFormatter(logging.Formatter):
    """A line for a machine: one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON; what JSON does not know is written as its string."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "process": record.process,
            "level": record.levelname,
            "event": getattr(record, "event", None),
            "message": record.getMessage(),
            "logger": record.name,
            **_trace_ids(),
            **_attributes(record),
        }
        if record.exc_info and record.exc_info[1] is not None:
            fields["error.type"] = type(record.exc_info[1]).__name__
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps({k: v for k, v in fields.items() if v is not None}, default=str)


class OtlpHandler(logging.Handler):
    """Gives records to an OpenTelemetry provider, in the context that they are written in."""

    def __init__(self, provider: LoggerProvider) -> None:
        super().__init__()
        self._logger = provider.get_logger("offramp")
        self.addFilter(lambda record: not record.name.startswith("opentelemetry"))

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on."""
        attributes = {name: _plain(value) for name, value in _attributes(record).items()}
        self._logger.emit(
            timestamp=int(record.created * 1e9),
            severity_number=SEVERITIES.get(record.levelno, SeverityNumber.UNSPECIFIED),
            severity_text=record.levelname,
            body=record.getMessage(),
            attributes=attributes,
            event_name=getattr(record, "event", None),
            exception=record.exc_info[1] if record.exc_info else None,
        )


def _attributes(record: logging.LogRecord) -> Attributes:
    found: Attributes = getattr(record, "attributes", {})
    return found


def _plain(value: object) -> Any:  # noqa: ANN401
    """A value that an attribute may have."""
    if isinstance(value, (list, tuple)):
        return [str(one) for one in value]
    return value if isinstance(value, (str, int, float, bool)) else str(value)


def _trace_ids() -> dict[str, str]:
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
    }
