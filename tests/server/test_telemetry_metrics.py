"""What a server really sends, against the documented table."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
from collector import Collector, attributes, collecting, points
from loglines import written
from service import ROOT, eventually, send_everything, word_service
from unread import UnreadCall
from wire import streamed, wire

from offramp.server.telemetry import setup
from offramp.server.telemetry.catalog import SECONDS
from offramp.server.telemetry.propagation import LowerKeys
from offramp.server.telemetry.setup import OFF, configure, exporter_names

ROW = re.compile(r"^\| `([^`]+)` \| (\w+) \| `([^`]+)` \| (.*?) \|", re.MULTILINE)


def documented() -> dict[str, tuple[str, str, set[str]]]:
    """Kind, unit and attributes of the metrics in docs/telemetry.md."""
    text = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
    return {
        name: (kind, unit, set(re.findall(r"`([^`]+)`", names)))
        for name, kind, unit, names in ROW.findall(text)
    }


def received(collector: Collector) -> dict[str, tuple[str, str, set[str]]]:
    """The same of the metrics that came."""
    kinds = {"sum": "counter", "gauge": "gauge", "histogram": "histogram"}
    return {
        name: (
            kinds[str(metric.WhichOneof("data"))],
            metric.unit,
            {key for point in points(metric) for key in attributes(point.attributes)},
        )
        for name, metric in collector.metrics.items()
    }


@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
async def test_what_is_sent_is_what_is_documented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporality: str
) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality)
        async with word_service(tmp_path, telemetry=configure(), shadow_share=1.0) as service:
            await send_everything(service)
    assert collector.services == {"offramp"}
    assert received(collector) == documented()
    exits = collector.metrics["offramp.exits"]
    assert sum(point.as_int for point in points(exits)) == 21
    duration = points(collector.metrics["offramp.request.total.duration"])
    assert sum(point.count for point in duration) == 21
    assert tuple(duration[0].explicit_bounds) == SECONDS
    filled = [point.as_int for point in points(collector.metrics["offramp.step.padding"])]
    assert filled
    assert all(0 <= tokens < 8 * 21 for tokens in filled)  # a step fills up to a multiple of 8
    calls = points(collector.metrics["rpc.server.call.duration"])
    rows = [attributes(point.attributes) for point in calls]
    assert {
        "rpc.system.name": "grpc",
        "rpc.method": "offramp.v1.ClassifierService/ClassifyText",
        "rpc.status_code": "INVALID_ARGUMENT",
        "rpc.response.status_code": "INVALID_ARGUMENT",
        "error.type": "INVALID_REQUEST",
    } in rows
    outcomes = {
        attributes(p.attributes)["offramp.outcome"]: p.as_int
        for p in points(collector.metrics["offramp.requests"])
        if "offramp.exit" not in attributes(p.attributes)
    }
    assert outcomes == {"failed": 1, "refused": 1, "cancelled": 1}


async def test_texts_that_no_model_can_take_are_counted_though_their_call_is_ok(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", collector.endpoint)
        async with word_service(tmp_path, telemetry=configure()) as service:
            texts, client = ["easy", " ", "\u200b"], service.client
            for model in ("", "gone"):
                answers = client.classify_many(texts, model=model, return_errors=True)
                assert len([answer async for answer in answers]) == 3
    counted = {
        attributes(p.attributes)["error.type"]: p.as_int
        for p in points(collector.metrics["offramp.invalid"])
    }
    assert counted == {"INVALID_REQUEST": 3, "MODEL_NOT_FOUND": 2}
    calls = points(collector.metrics["rpc.server.call.duration"])
    assert {attributes(p.attributes)["rpc.response.status_code"] for p in calls} == {"OK"}


@pytest.mark.parametrize("seconds", [None, 60.0])
async def test_who_gives_up_is_not_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float | None
) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", collector.endpoint)
        async with (
            word_service(tmp_path, telemetry=configure()) as service,
            wire(service.address) as raw,
        ):
            call = raw.classifier.StreamClassifyText(timeout=seconds)  # type: ignore[call-arg]
            await call.write(streamed([("a", "plug")]))
            await service.backend.is_plugged()
            call.cancel()
            await eventually(lambda: service.scheduler.queued == 0)
            service.backend.unplug()
            await eventually(lambda: service.scheduler.idle)
    calls = points(collector.metrics["rpc.server.call.duration"])
    assert {attributes(p.attributes)["rpc.response.status_code"] for p in calls} == {"CANCELLED"}


async def test_who_leaves_while_an_answer_is_sent_has_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/offramp.v1.ClassifierService/StreamClassifyText"
    with collecting() as collector, written() as lines:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", collector.endpoint)
        async with word_service(tmp_path, telemetry=configure()) as service:
            message = streamed([("a", "easy plug")]).SerializeToString()
            with UnreadCall(service.address, path, message, last=False):
                await service.backend.is_plugged()
                service.backend.unplug()
                await eventually(lambda: service.scheduler.idle)
                await service.client.list_models()  # by then the answer is on its way
            await eventually(lambda: not stream_sessions())
    calls = [
        attributes(p.attributes)
        for p in points(collector.metrics["rpc.server.call.duration"])
        if attributes(p.attributes)["rpc.method"] == path.removeprefix("/")
    ]
    assert [call["rpc.response.status_code"] for call in calls] == ["CANCELLED"]
    assert not lines.of("offramp.failure")


def stream_sessions() -> list[object]:
    return [
        frame
        for task in asyncio.all_tasks()
        for frame in task.get_stack()
        if frame.f_code.co_name == "_read"
    ]


async def test_without_configuration_nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    for signal in ("METRICS", "TRACES", "LOGS"):
        monkeypatch.delenv(f"OTEL_{signal}_EXPORTER", raising=False)
    assert configure() == OFF
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert configure() == OFF


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("OTEL_METRICS_EXPORTER", "otpl", "there are console, none, otlp"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "soap", "must be one of grpc, http/protobuf, not 'soap'"),
        ("OTEL_TRACES_EXPORTER", "console,prometheus", "names 'prometheus'; there are console"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "http", "must be a port"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip", "exporter of metrics, otlp_proto_grpc, cannot"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "cannot use its OTEL_EXPORTER_. variables"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "99999", "must be a port, 0 to 65535, not '99999'"),
    ],
)
def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp,prometheus")
    monkeypatch.setenv(variable, value)
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match=says):
        configure()
    assert set(threading.enumerate()) <= before


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"):
        monkeypatch.setenv(name, "")
    assert exporter_names("metrics") == ["otlp_proto_grpc"]
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "")
    monkeypatch.setattr(setup, "SCRAPE_PORT", "0")
    telemetry = configure()
    assert telemetry.scrape_port
    telemetry.close()


@pytest.mark.parametrize(
    ("exporter", "says"), [("none", ""), ("console", "OTEL_PROPAGATORS: Propagator b9 not found")]
)
def test_a_format_of_traces_that_is_not_installed_is_told_where_there_are_traces(
    exporter: str, says: str
) -> None:
    code = "from offramp.server.telemetry.setup import configure; configure()"
    environ = {**os.environ, "OTEL_PROPAGATORS": "b9", "OTEL_TRACES_EXPORTER": exporter}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == int(bool(says))
    assert says in done.stderr


def test_a_callers_trace_is_found_whatever_case_a_format_writes() -> None:
    carrier = {"traceparent": "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"}
    assert LowerKeys().get(carrier, "TraceParent") == list(carrier.values())
    assert LowerKeys().get(carrier, "X-Other") is None
    assert LowerKeys().keys(carrier) == ["traceparent"]


def test_a_taken_port_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1")
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))
        with pytest.raises(OSError, match=f"127.0.0.1:{port}: .* OTEL_EXPORTER_PROMETHEUS_PORT"):
            configure()


def test_a_connection_to_be_scraped_that_says_nothing_is_closed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("offramp.server.telemetry.scrapes.SILENCE", 0.05)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
    telemetry = configure()
    try:
        with socket.create_connection(("localhost", telemetry.scrape_port or 0), 30.0) as silent:
            assert silent.recv(1) == b""
        with urllib.request.urlopen(
            f"http://localhost:{telemetry.scrape_port}/metrics", timeout=30.0
        ) as page:
            assert page.status == 200
    finally:
        telemetry.close()
    assert capfd.readouterr().err == ""
