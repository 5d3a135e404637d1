"""The client's span and the server's are one trace, over real gRPC, exported to a real receiver."""

import asyncio
from collections.abc import Generator
from functools import cache
from pathlib import Path

import pytest
from collector import Collector, attributes, collecting
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from service import eventually, word_service
from wire import unary, wire

from offramp.client import Client, OfframpError, ServerFailedError
from offramp.server.telemetry.setup import configure
from offramp.server.telemetry.tracing import LINKS_PER_STEP, SPANS_PER_CALL

UNARY = "offramp.v1.ClassifierService/ClassifyText"
STREAM = "offramp.v1.ClassifierService/StreamClassifyText"


@cache
def client_exporter() -> InMemorySpanExporter:
    """What the application of the client keeps; a process has one provider for good."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def client_spans() -> InMemorySpanExporter:
    exporter = client_exporter()
    exporter.clear()
    return exporter


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Generator[Collector]:
    with collecting() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", found.endpoint)
        yield found


def one(collector: Collector, name: str) -> Span:
    found = [span for span in collector.spans if span.name == name]
    assert len(found) == 1, [span.name for span in collector.spans]
    return found[0]


def assert_child(server: Span, client: ReadableSpan) -> None:
    context = client.get_span_context()
    assert context is not None
    assert server.trace_id.hex() == trace.format_trace_id(context.trace_id)
    assert server.parent_span_id.hex() == trace.format_span_id(context.span_id)


async def test_a_unary_call_is_one_trace_and_tells_why_it_took_its_time(
    tmp_path: Path, collector: Collector, client_spans: InMemorySpanExporter
) -> None:
    async with word_service(tmp_path, telemetry=configure()) as service:
        await service.client.classify("fine film")
    (client,) = client_spans.get_finished_spans()
    server = one(collector, UNARY)
    assert_child(server, client)
    assert [event.name for event in server.events] == [
        "tokenized", "admitted", "stage left", "stage left", "stage left",
    ]  # fmt: skip
    assert [attributes(event.attributes).get("offramp.stage") for event in server.events] == [
        None, None, 0, 1, 2,
    ]  # fmt: skip
    found = attributes(server.attributes)
    assert (found["offramp.exit"], found["offramp.exit.reason"]) == (2, "confident")
    assert (found["offramp.confidence"], found["offramp.threshold"]) == (0.8, 0.75)
    assert (found["offramp.tokens"], found["rpc.status_code"]) == (4, "OK")
    steps = [span for span in collector.spans if span.name == "offramp.step"]
    assert [attributes(step.attributes)["offramp.stage"] for step in steps] == [0, 1, 2]
    assert all(link.span_id == server.span_id for step in steps for link in step.links)
    assert [link.span_id for link in server.links] == [step.span_id for step in steps]


@pytest.mark.parametrize("shell", ["aio", "sync"])
async def test_unary_and_stream_of_both_clients_are_one_trace_each(
    tmp_path: Path, collector: Collector, client_spans: InMemorySpanExporter, shell: str
) -> None:
    def synchronous(address: str) -> None:
        with Client(address) as client:
            client.classify("easy")
            assert len(list(client.classify_many(["easy"] * 3))) == 3

    async with word_service(tmp_path, telemetry=configure()) as service:
        if shell == "sync":
            await asyncio.to_thread(synchronous, service.address)
        else:
            await service.client.classify("easy")
            assert len([a async for a in service.client.classify_many(["easy"] * 3)]) == 3
    unary_span, stream_span = client_spans.get_finished_spans()
    assert_child(one(collector, UNARY), unary_span)
    stream = one(collector, STREAM)
    assert_child(stream, stream_span)
    inputs = [span for span in collector.spans if span.name == "offramp.classify"]
    assert [span.parent_span_id for span in inputs] == [stream.span_id] * 3
    assert all(attributes(span.attributes)["offramp.exit"] == 0 for span in inputs)


async def test_a_failure_is_an_error_in_both_spans_and_in_the_step(
    tmp_path: Path, collector: Collector, client_spans: InMemorySpanExporter
) -> None:
    async with word_service(tmp_path, telemetry=configure()) as service:
        with pytest.raises(ServerFailedError):
            await service.client.classify("poison")
    (client,) = client_spans.get_finished_spans()
    server, step = one(collector, UNARY), one(collector, "offramp.step")
    assert client.status.status_code is trace.StatusCode.ERROR
    assert {server.status.code, step.status.code} == {Status.STATUS_CODE_ERROR}
    assert attributes(server.attributes)["error.type"] == "STEP_FAILED"


@pytest.mark.parametrize("texts", [1, 2])  # with the call's span, and with their own
async def test_what_was_cancelled_in_its_step_is_told_nothing_after_its_end(
    tmp_path: Path, collector: Collector, caplog: pytest.LogCaptureFixture, texts: int
) -> None:
    async with word_service(tmp_path, telemetry=configure()) as service, wire(service.address) as w:
        call = w.classifier.ClassifyText(unary(*["plug"] * texts))
        waiting = asyncio.ensure_future(call)
        await service.backend.is_plugged()
        call.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await eventually(lambda: not service.app.models.admissions._open)  # pyright: ignore[reportPrivateUsage]
        service.backend.unplug()
        await eventually(lambda: service.held == (0, 0))
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]
    steps = [span for span in collector.spans if span.name == "offramp.step"]
    assert steps
    assert all(step.links for step in steps)


async def test_spans_and_links_are_bounded(tmp_path: Path, collector: Collector) -> None:
    async with word_service(tmp_path, telemetry=configure()) as service:
        texts = ["plug easy"] + ["easy"] * 199
        answers = service.client.classify_many(texts, return_errors=True)
        first = asyncio.create_task(anext(answers))
        await service.backend.is_plugged()
        service.backend.unplug()
        assert not isinstance(await first, OfframpError)
        assert len([answer async for answer in answers]) == 199
    inputs = [span for span in collector.spans if span.name == "offramp.classify"]
    assert len(inputs) == SPANS_PER_CALL
    steps = [span for span in collector.spans if span.name == "offramp.step"]
    assert max(len(step.links) for step in steps) <= LINKS_PER_STEP


async def test_what_the_client_does_not_sample_the_server_does_not_trace(
    tmp_path: Path, collector: Collector
) -> None:
    tracer = TracerProvider(TraceIdRatioBased(0.0), shutdown_on_exit=False).get_tracer("dim")
    async with word_service(tmp_path, telemetry=configure()) as service:
        with tracer.start_as_current_span("unsampled") as span:
            context = span.get_span_context()
            ids = (
                f"{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}"
            )
            async with wire(service.address) as raw:
                for flags in ("00", "01"):
                    metadata = (("traceparent", f"00-{ids}-{flags}"),)
                    await raw.classifier.ClassifyText(unary("easy"), metadata=metadata)
    assert {span.name for span in collector.spans} == {UNARY, "offramp.step"}
    assert one(collector, UNARY).trace_id.hex() == trace.format_trace_id(context.trace_id)
