"""Client spans, through the OpenTelemetry API if it is installed; without it nothing is done.

The spans go wherever the application's tracer provider sends them, and the server's join them.
"""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

from offramp.client.channel import Metadata
from offramp.client.errors import OfframpError

INSTALLED = bool(find_spec("opentelemetry") and find_spec("opentelemetry.trace"))

CLASSIFY_TEXT = "offramp.v1.ClassifierService/ClassifyText"
STREAM_CLASSIFY_TEXT = "offramp.v1.ClassifierService/StreamClassifyText"
LIST_MODELS = "offramp.v1.ModelService/ListModels"
GET_MODEL = "offramp.v1.ModelService/GetModel"


@cache
def _injector() -> Callable[..., None] | None:
    """What writes a trace into metadata; None where its format's package is not installed."""
    try:  # `OTEL_PROPAGATORS` is read when this is first imported
        from opentelemetry.propagate import inject  # noqa: PLC0415
    except ValueError as error:
        logging.getLogger(__name__).warning("servers get no traces, OTEL_PROPAGATORS: %s", error)
        return None
    return inject


@contextmanager
def call_span(method: str, metadata: Metadata) -> Generator[Metadata]:
    """A span around a call of `package.Service/Method`; gives the metadata that carry it.

    It never becomes the current span, so a generator may hold it open between two values.
    """
    if not INSTALLED:
        yield metadata
        return
    from opentelemetry import trace  # noqa: PLC0415 - only where it is installed

    names = {"rpc.system.name": "grpc", "rpc.method": method}
    span = trace.get_tracer("offramp").start_span(
        method, kind=trace.SpanKind.CLIENT, attributes=names
    )
    carrier: dict[str, str] = {}
    if (inject := _injector()) is not None:
        inject(carrier, trace.set_span_in_context(span))
    code = "CANCELLED"
    try:
        # gRPC takes lower-case keys alone, and some propagators write capitals (X-Amzn-Trace-Id).
        yield (*metadata, *((key.lower(), value) for key, value in carrier.items()))
        code = "OK"
    except OfframpError as error:
        code = error.code.name
        span.set_attribute("error.type", code)
        span.set_status(trace.StatusCode.ERROR, str(error))
        raise
    finally:
        span.set_attributes({"rpc.status_code": code, "rpc.response.status_code": code})
        span.end()
