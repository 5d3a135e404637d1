"""The standard variables choose OTLP over HTTP, or the console, for all three signals."""

import http.server
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from service import PATIENCE, word_service

from offramp.server.telemetry import setup
from offramp.server.telemetry.logs import LogFormat, configure_logging
from offramp.server.telemetry.setup import Telemetry, configure


@pytest.fixture
def quiet_root() -> Generator[None]:
    """The root logger as it was before."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("quiet_root")
async def test_otlp_over_http_carries_all_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: dict[str, list[bytes]] = {}

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.setdefault(self.path, []).append(body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        telemetry = configure()
        configure_logging(LogFormat.TEXT, telemetry.logs)
        async with word_service(tmp_path, telemetry=telemetry) as service:
            await service.client.classify("easy")
        server.shutdown()
    assert received.keys() == {"/v1/metrics", "/v1/traces", "/v1/logs"}
    sent = ExportMetricsServiceRequest.FromString(received["/v1/metrics"][-1])
    scope = sent.resource_metrics[0].scope_metrics[0]
    assert "offramp.exits" in {metric.name for metric in scope.metrics}


def test_who_cannot_send_what_is_left_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "CLOSING", 1.0)
    gone, closed = threading.Event(), list[str]()

    def stuck() -> None:
        gone.wait(PATIENCE)
        closed.append("stuck")

    Telemetry(closers=(stuck, lambda: closed.append("quick"), stuck)).close()
    assert closed == ["quick"]
    gone.set()


def test_the_console_shows_all_three() -> None:
    program = """
from offramp.server.telemetry.logs import Event, LogFormat, configure_logging, log_event
from offramp.server.telemetry.setup import configure
telemetry = configure()
configure_logging(LogFormat.JSON, telemetry.logs)
telemetry.registry.counter("offramp.exits").add(1, "m", 0, "confident")
telemetry.registry.histogram("offramp.event_loop.lag").of().record(0.001)
telemetry.tracer.start_span("a span").end()
log_event(Event.START, "serving")
telemetry.close()
"""
    consoles = {f"OTEL_{signal}_EXPORTER": "console" for signal in ("METRICS", "TRACES", "LOGS")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | consoles,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in ("offramp.exits", "offramp.event_loop.lag", "a span", "offramp.start"):
        assert name in done.stdout
