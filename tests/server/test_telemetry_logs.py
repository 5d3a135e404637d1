"""Log lines: one for each event, with the ids of its trace, and no texts unless switched on."""

import json
import logging
from collections.abc import Generator
from pathlib import Path

import pytest
from collector import attributes, collecting
from fakes import request, scheduler
from loglines import Lines, written
from opentelemetry import propagate
from opentelemetry.sdk.trace import TracerProvider
from service import word_service

from offramp.client import ServerFailedError
from offramp.scheduler.backend import Batch
from offramp.scheduler.errors import QueueFullError
from offramp.server.telemetry.logs import LogFormat, TextFormatter, configure_logging
from offramp.server.telemetry.model_log import ModelLog
from offramp.server.telemetry.setup import Telemetry, configure


@pytest.fixture
def lines() -> Generator[Lines]:
    """What is written to standard error as JSON while a test runs."""
    with written() as found:
        yield found


def test_what_a_caller_writes_as_baggage_or_leaves_early_is_in_no_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        configure_logging(LogFormat.TEXT, None)
        logging.getLogger("opentelemetry.context").warning("something else")
        grpc_log = logging.getLogger("grpc._cython.cygrpc")
        grpc_log.error("ExecuteBatchError raised in core by servicer method [%s]", "gone")
        grpc_log.error("Unexpected [%s]", "trouble")
        propagate.extract({"baggage": "written by anybody"})
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    told = capsys.readouterr().err
    assert "something else" in told
    assert "anybody" not in told
    assert "gone" not in told
    assert "Unexpected [trouble]" in told


async def test_one_line_for_a_load_a_start_a_stop_and_a_failure(
    tmp_path: Path, lines: Lines
) -> None:
    async with word_service(tmp_path) as service:
        with pytest.raises(ServerFailedError):
            await service.client.classify("poison film")
    assert [line["event"] for line in lines] == [
        "offramp.load", "offramp.start", "offramp.failure", "offramp.stop",
    ]  # fmt: skip
    (failure,) = lines.of("offramp.failure")
    assert failure["error.type"] == "RuntimeError"
    assert (failure["model"], failure["stage"]) == ("words", 0)
    assert "poison film" not in json.dumps(lines)


async def test_texts_are_told_only_where_that_was_switched_on(tmp_path: Path, lines: Lines) -> None:
    async with word_service(tmp_path, telemetry=Telemetry(log_texts=True)) as service:
        with pytest.raises(ServerFailedError):
            await service.client.classify("poison film")
    (failure,) = lines.of("offramp.failure")
    assert failure["text"] == "poison film"


def test_an_episode_of_overload_is_one_line_when_it_is_over(lines: Lines) -> None:
    full = scheduler(max_queue_requests=2)
    log = ModelLog("words", full)
    for _ in range(2):
        full.submit(request(), 0.0)
    step = Batch(0, (), 0.0)
    for _ in range(3):
        log.refused(request(), QueueFullError(0.1))
        log.stepped(step, 0.01)
    assert not lines
    full.next_batch(0.0)
    for _ in range(2):
        log.stepped(step, 0.01)
    (overload,) = lines.of("offramp.overload")
    assert (overload["refused"], overload["level"], overload["model"]) == (3, "WARNING", "words")
    log.refused(request(), QueueFullError(0.1))
    log.close()
    assert [line["refused"] for line in lines] == [3, 1]


async def test_lines_reach_the_receiver_with_the_ids_of_their_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
        telemetry = configure()
        root = logging.getLogger()
        handlers, level = list(root.handlers), root.level
        try:
            configure_logging(LogFormat.TEXT, telemetry.logs)
            async with word_service(tmp_path, telemetry=telemetry) as service:
                with pytest.raises(ServerFailedError):
                    await service.client.classify("poison")
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
    names = [record.event_name for record in collector.logs]
    assert names == ["offramp.load", "offramp.start", "offramp.failure", "offramp.stop"]
    failure = collector.logs[2]
    (server,) = [span for span in collector.spans if span.name.endswith("/ClassifyText")]
    assert (failure.trace_id, failure.span_id) == (server.trace_id, server.span_id)
    assert attributes(failure.attributes)["exception.type"] == "RuntimeError"
    assert failure.severity_text == "ERROR"


def test_a_line_for_a_person_has_its_attributes_behind_it() -> None:
    record = logging.LogRecord("offramp", logging.INFO, "", 0, "serving", (), None)
    record.attributes = {"address": "127.0.0.1:1", "models": ["a"]}
    assert TextFormatter().format(record).endswith("serving address=127.0.0.1:1 models=['a']")
    with TracerProvider().get_tracer("").start_as_current_span("") as span:
        ids = span.get_span_context()
        told = TextFormatter().format(record)
    assert told.endswith(f" trace_id={ids.trace_id:032x} span_id={ids.span_id:016x}")
