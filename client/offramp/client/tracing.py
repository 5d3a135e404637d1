"""Client spans, through the OpenTelemetry API if it is installed; without it nothing is done.

The spans go wherever the application's tracer provider sends them, and the server's join them.
"""

from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec

from offramp.client.channel import Metadata
from offramp.client.errors import OfframpError

INSTALLED = bool(find_spec("opentelemetry") and find_spec("opentelemetry.trace"))

CLASSIFY_TEXT = "offramp.v1.ClassifierService/ClassifyText"
STREAM_CLASSIFY_TEXT = "offramp.v1.ClassifierService/StreamClassifyText"
LIST_MODELS = "offramp.v1.ModelService/ListModels"
GET_MODEL = "offramp.v1.ModelService/GetModel"


@contextmanager
def call_span(method: str, metadata: Metadata) -> Generator[Metadata]:
    """A span around a call of `package.Service/Method`; gives the metadata that carry it.

    It never becomes the current span, so a generator may hold it open between two values.
    """
    if not INSTALLED:
        yield metadata
        return
    from opentelemetry import propagate, trace  # noqa: PLC0415 - only where it is installed

    names = {"rpc.system.name": "grpc", "rpc.method": method}
    span = trace.get_tracer("offramp").start_span(
        method, kind=trace.SpanKind.CLIENT, attributes=names
    )
    carrier: dict[str, str] = {}
    propagate.inject(carrier, trace.set_span_in_context(span))
    code = "CANCELLED"
    try:
        yield (*metadata, *carrier.items())
        code = "OK"
    except OfframpError as error:
        code = error.code.name
        span.set_attribute("error.type", code)
        span.set_status(trace.StatusCode.ERROR, str(error))
        raise
    finally:
        span.set_attributes({"rpc.status_code": code, "rpc.response.status_code": code})
        span.end()
