"""The load generator: when things are due, what is counted, when a queue grows; a real server."""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Self
from xml.etree import ElementTree as ET

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from service import word_service

from offramp.cli import bench
from offramp.cli.load.arrivals import Pattern, arrivals, read_trace
from offramp.cli.load.inputs import read_inputs
from offramp.cli.load.plot import latency_plot, line_plot
from offramp.cli.load.report import percentile, summarize
from offramp.cli.load.run import Sample, closed_loop, open_loop, open_loop_stream, saturated_stream
from offramp.cli.load.saturation import Probe, Saturation, Search, grew, sustained
from offramp.cli.load.target import InTurn, OfframpTarget, Reply, adapter
from offramp.client import Options


class Echo:
    """Answers at once; the text `bad` fails, alone or in a stream."""

    def __init__(self, address: str = "") -> None:
        self.address = address
        self.held = self.most_held = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    async def classify(self, text: str) -> Reply:
        self.held += 1
        self.most_held = max(self.held, self.most_held)
        await asyncio.sleep(0)
        self.held -= 1
        if text == "bad":
            raise LookupError
        return Reply(text, len(text), 1)

    async def classify_many(
        self, texts: AsyncIterator[str]
    ) -> AsyncIterator[tuple[int, Reply | Exception]]:
        index = 0
        async for text in texts:
            if text == "end":
                raise ConnectionError
            yield index, LookupError() if text == "bad" else Reply(text)
            index += 1


@pytest.mark.parametrize("pattern", list(Pattern))
def test_arrivals_have_their_rate_and_a_burst_its_contrast(pattern: Pattern) -> None:
    due = arrivals(pattern, 100.0, 200.0)
    assert due == sorted(due)
    assert due == arrivals(pattern, 100.0, 200.0)
    assert due[0] >= 0
    assert due[-1] < 200
    assert len(due) == pytest.approx(20_000, rel=0.15)
    counts = [0] * 2000
    for at in due:
        counts[int(at * 10)] += 1
    mean = sum(counts) / len(counts)
    dispersion = sum((count - mean) ** 2 for count in counts) / len(counts) / mean
    assert (dispersion > 3) is (pattern is Pattern.BURSTY)


@given(st.integers(0, 10**6), st.floats(10.0, 500.0))
def test_a_bursty_run_has_its_rate_however_its_phases_fall(seed: int, rate: float) -> None:
    wanted = 5.0 * rate
    assert abs(len(arrivals(Pattern.BURSTY, rate, 5.0, seed)) - wanted) < 6 * wanted**0.5 + 6


def test_traces(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text("[3.5, 1, 2]")
    assert read_trace(trace) == [0, 1, 2.5]
    trace.write_text("10\n10.25\n")
    assert read_trace(trace) == [0, 0.25]
    trace.write_text("soon")
    with pytest.raises(ValueError, match="is no trace"):
        read_trace(trace)
    with pytest.raises(ValueError, match="must be positive"):
        arrivals(Pattern.POISSON, 0, 1)


async def test_every_message_is_counted_errors_too() -> None:
    samples = await open_loop(Echo(), ["one", "bad", "three"], [0, 0, 0.01, 0.01, 0.02])
    assert [sample.error for sample in samples] == ["", "LookupError", "", "", "LookupError"]
    assert all(sample.done >= sample.sent >= sample.due for sample in samples)
    summary = summarize(samples)
    assert (summary.messages, summary.answered, summary.errors) == (5, 3, {"LookupError": 2})
    assert summary.exits == {3: 2, 5: 1}
    assert (summary.p50 < inf, summary.p90, summary.longest < inf) == (True, inf, True)
    assert summary.to_dict()["p90"] is None


def test_nothing_is_sent_before_it_is_due() -> None:
    due = [at / 1000 + 0.0004 for at in range(50)]
    for samples in (
        uvloop.run(open_loop(Echo(), ["text"], due)),
        uvloop.run(open_loop_stream(Echo(), ["text"], due)),
    ):
        assert len(samples) == 50
        assert all(sample.sent >= sample.due for sample in samples)


async def test_latency_counts_from_due_when_the_server_stalls_the_generator() -> None:
    class Stalls(Echo):
        async def classify(self, text: str) -> Reply:
            time.sleep(0.05)  # noqa: ASYNC251 - it holds up the generator itself
            return await super().classify(text)

    samples = await open_loop(Stalls(), ["text"], [0.0, 0.001, 0.002])
    assert samples[2].latency > 0.1


async def test_a_closed_loop_keeps_so_many_under_way() -> None:
    echo = Echo()
    samples = await closed_loop(echo, ["a", "b"], 5, 0.05)
    assert echo.most_held == 5
    assert len(samples) >= 5


async def test_connections_take_turns() -> None:
    echoes = [Echo(), Echo(), Echo()]
    async with InTurn(echoes) as target:
        await closed_loop(target, ["a"], 6, 0.05)
        assert [echo.most_held for echo in echoes] == [2, 2, 2]
        samples = await saturated_stream(target, ["a"], 0.05, 3)
    assert all(not sample.error for sample in samples)


async def test_one_by_one_means_the_same_texts_whatever_the_pace() -> None:
    samples = await closed_loop(Echo(), ["a", "b"], 1, 60.0, most=5)
    assert [sample.reply and sample.reply.label for sample in samples] == ["a", "b", "a", "b", "a"]


class Silent(Echo):
    """A server that answers nobody any more once two ask at a time."""

    async def classify(self, text: str) -> Reply:
        reply = await super().classify(text)
        if self.most_held > 1:
            raise ConnectionError
        return reply


class Cut(Echo):
    """A server whose stream breaks while its next text is not due yet."""

    async def classify_many(
        self, texts: AsyncIterator[str]
    ) -> AsyncIterator[tuple[int, Reply | Exception]]:
        async for text in texts:
            yield 0, Reply(text)
            coming = asyncio.ensure_future(anext(texts))
            await asyncio.sleep(0.02)
            coming.cancel()
            raise ConnectionError


async def test_a_broken_stream_fails_what_was_still_due() -> None:
    samples = await open_loop_stream(Echo(), ["a", "end", "c"], [0.0, 0.01, 0.02, 0.03, 60.0])
    assert [sample.error for sample in samples] == ["", *["ConnectionError"] * 4]
    assert [sample.due for sample in samples] == [0.0, 0.01, 0.02, 0.03, 60.0]
    late = await open_loop_stream(Cut(), ["a"], [0.0, 60.0, 61.0])
    assert [(sample.due, sample.error) for sample in late] == [
        (0.0, ""),
        (60.0, "ConnectionError"),
        (61.0, "ConnectionError"),
    ]
    assert all(sample.latency >= 0 for sample in samples)


async def test_streams_take_turns_and_a_broken_one_fails_what_it_held() -> None:
    samples = await open_loop_stream(Echo(), ["a", "bad", "c"], [0.0, 0.0, 0.0, 0.01], streams=2)
    assert [sample.reply and sample.reply.label for sample in samples] == ["a", "c", None, "a"]
    broken = await open_loop_stream(Echo(), ["a", "end"], [0.0, 0.0])
    assert [sample.error for sample in broken] == ["", "ConnectionError"]
    assert len(await saturated_stream(Echo(), ["a"], 0.02)) > 1


def test_a_queue_grows_above_what_is_served_and_not_below() -> None:
    def run(rate: float, service: float) -> list[Sample]:
        free = 0.0
        samples: list[Sample] = []
        for due in arrivals(Pattern.POISSON, rate, 30.0, seed=3):
            free = max(free, due) + random.Random(due).expovariate(1 / service)
            samples.append(Sample(due, due, free, Reply("a")))
        return samples

    assert not grew(run(80.0, 0.01), 30.0)
    assert grew(run(120.0, 0.01), 30.0)
    assert grew([Sample(0.0, 0.0, 0.1, None, "Refused")], 30.0)
    good, bad = Sample(0.0, 0.0, 0.1, Reply("a")), Sample(0.0, 0.0, 0.1, None, "Refused")
    assert not grew([good] * 99 + [bad], 30.0)
    assert grew([good] * 98 + [bad] * 2, 30.0)


def test_a_rate_that_was_not_answered_is_not_told_as_sustained() -> None:
    calm, hidden, more = (
        Probe(9.0, 8.9, grew=False),
        Probe(12.3, 9.6, grew=False),
        Probe(14.0, 9.0, grew=True),
    )
    assert sustained([calm, hidden, more]) == 9.6
    assert str(Saturation(9.6, 10.0, (calm, hidden, more))) == "9.6"
    assert str(Saturation(9.6, 10.0, (calm, hidden))) == "at least 9.6"
    assert str(Saturation(sustained([more]), 10.0, (more,))) == "below 14.0"


def test_percentiles_are_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert percentile([7.0], 0.5) == 7


def test_plots_are_svg_with_a_line_a_run() -> None:
    samples = [Sample(0.0, 0.0, 0.001 * i, Reply("a")) for i in range(1, 50)]
    root = ET.fromstring(latency_plot("a < b", {"ours": samples, "theirs": samples}))  # noqa: S314
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 2
    with pytest.raises(ValueError, match="nothing to plot"):
        line_plot("", "", "", {"none": [(0, 0)]}, log_y=True)


def test_adapters_are_named_module_and_callable() -> None:
    made = adapter(f"{__name__}:Echo" if __name__ != "__main__" else "", "host:1")
    assert type(made).__name__ == "Echo"
    for name in ("nothing", "no_such_module:x", "json:x"):
        with pytest.raises(ValueError, match="adapter"):
            adapter(name, "host:1")


class Unary(Echo):
    """A server without streams."""

    def classify_many(
        self, texts: AsyncIterator[str]
    ) -> AsyncIterator[tuple[int, Reply | Exception]]:
        raise NotImplementedError("it answers unary calls alone")


def test_streams_of_a_server_that_has_none_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts"
    texts.write_text("film\n")
    common = ["--texts", str(texts), "--adapter", f"{__name__}:Unary", "--stream"]
    for load in (["--rate", "100"], ["--saturate"]):
        assert bench.main([*common, *load, "--seconds", "0.1"]) == 1
        said = capsys.readouterr().err
        assert "it answers unary calls alone" in said
        assert "leave out --stream" in said


class Lost(Echo):
    """A server that dies of its first stream."""

    async def classify(self, text: str) -> Reply:
        if self.held < 0:
            raise ConnectionError("nobody is there")
        return await super().classify(text)

    async def classify_many(
        self, texts: AsyncIterator[str]
    ) -> AsyncIterator[tuple[int, Reply | Exception]]:
        self.held = -1
        async for text in texts:
            raise ConnectionError(text)
        yield 0, LookupError()


def test_a_server_that_is_lost_on_the_way_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, figures = tmp_path / "texts", tmp_path / "figures.json"
    texts.write_text("film\n")
    where = ["--texts", str(texts), "--adapter", f"{__name__}:Lost", "--address", "host:1"]
    load = ["--stream", "--rate", "100", "--seconds", "0.1", "--json", str(figures)]
    assert bench.main([*where, *load]) == 1
    told = capsys.readouterr()
    assert "host:1 no longer answers: nobody is there" in told.err
    assert "nan" not in told.out
    summary = json.loads(figures.read_text(), parse_constant=pytest.fail)["summary"]
    assert (summary["answered"], summary["p99"]) == (0, None)


class Stopped(Echo):
    """A server at whose tenth message of a stream, or fifth call at once, Ctrl-C is pressed."""

    async def classify(self, text: str) -> Reply:
        if self.held == 5:
            os.kill(os.getpid(), signal.SIGINT)
        self.held += 1
        try:
            await asyncio.sleep(0.01)
        finally:
            self.held -= 1
        return Reply(text)

    async def classify_many(
        self, texts: AsyncIterator[str]
    ) -> AsyncIterator[tuple[int, Reply | Exception]]:
        index = 0
        async for text in texts:
            if index == 10:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(60.0)
            yield index, Reply(text)
            index += 1


def test_what_was_done_before_an_interruption_is_shown_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, figures = tmp_path / "texts", tmp_path / "figures.json"
    texts.write_text("film\n")
    where = ["--texts", str(texts), "--adapter", f"{__name__}:Stopped", "--json", str(figures)]
    assert bench.main([*where, "--stream", "--saturate"]) == 130
    told = capsys.readouterr()
    assert "interrupted: this is what was done by then" in told.err
    assert "answered     10 of 10" in told.out
    assert json.loads(figures.read_text())["summary"]["answered"] == 10
    assert bench.main([*where, "--rate", "2000"]) == 130
    assert json.loads(figures.read_text())["summary"]["errors"] == {}


def test_an_interrupted_search_writes_the_rates_that_it_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*args: object, probes: list[Probe]) -> Saturation:
        del args
        probes.append(Probe(100.0, 99.0, grew=False))
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "saturation", interrupted)
    texts, figures = tmp_path / "texts", tmp_path / "figures.json"
    texts.write_text("film\n")
    where = ["--texts", str(texts), "--adapter", f"{__name__}:Echo", "--json", str(figures)]
    assert bench.main([*where, "--saturate"]) == 130
    tried = {"rate": 100.0, "answered": 99.0, "grew": False, "errors": {}}
    assert json.loads(figures.read_text())["saturation"] == {"rate": None, "probes": [tried]}


def test_a_search_tells_errors_that_it_counts_against_a_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts"
    texts.write_text("film\nbad\n")
    where = ["--texts", str(texts), "--adapter", f"{__name__}:Echo"]
    bench.main([*where, "--saturate", "--seconds", "0.1"])
    told = capsys.readouterr().out
    assert "saturation   below" in told
    assert "LookupError" in told
    assert "in the search for the saturation" in told


def test_pairs_are_sent_whole_and_not_to_an_adapter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "fine"}\n{"text": "fine", "text_pair": "easy"}\n')
    assert read_inputs(texts) == ["fine", ("fine", "easy")]
    assert bench.main(["--texts", str(texts), "--adapter", f"{__name__}:Echo"]) == 1
    assert f"{texts} holds pairs, where single texts are expected" in capsys.readouterr().err


async def test_a_real_server_unary_and_stream(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service:
        target = OfframpTarget(service.address, 30.0, Options(threshold=0.85))
        async with target:
            unary = await open_loop(target, ["easy", "film"], [0.0, 0.01, 0.02, 0.03])
            stream = await open_loop_stream(target, ["easy", "film"], [0.0, 0.01, 0.02])
    for samples in (unary, stream):
        exits = [sample.reply.exit for sample in samples if sample.reply]
        assert exits == [0, 2, 0, 2][: len(samples)]


async def test_the_command_writes_figures_and_a_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts"
    texts.write_text('{"text": "easy"}\nfilm\n\n')
    figures, plot = tmp_path / "figures.json", tmp_path / "plot.svg"
    async with word_service(tmp_path) as service:
        common = ["--address", service.address, "--texts", str(texts), "--seconds", "0.3"]
        outputs = ["--json", str(figures), "--plot", str(plot)]
        status = await asyncio.to_thread(bench.main, [*common, "--rate", "40", *outputs])
        assert status == 0
        assert await asyncio.to_thread(bench.main, [*common, "--saturate", "--stream"]) == 0
        assert await asyncio.to_thread(bench.main, [*common, "--in-flight", "2"]) == 0
    record = json.loads(figures.read_text())
    assert record["summary"]["answered"] == record["summary"]["messages"] > 0
    assert set(record["summary"]["exits"]) <= {"0", "1", "2"}
    assert ET.fromstring(plot.read_text()).tag.endswith("svg")  # noqa: S314
    assert "exit 0" in capsys.readouterr().out


def test_bad_input_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records, texts = tmp_path / "texts.jsonl", tmp_path / "texts"
    for record in ('{"label": 1}', '{"text": 5}'):
        records.write_text(record)
        assert bench.main(["--texts", str(records)]) == 1
        assert f"{records}:1: must be a JSON object whose text" in capsys.readouterr().err
    texts.write_bytes(b"fine\ncaf\xe9\n")
    assert bench.main(["--texts", str(texts)]) == 1
    assert f"{texts} is not UTF-8 in a line that begins 'caf" in capsys.readouterr().err
    texts.write_text("fine\n")
    assert bench.main(["--texts", str(texts), "--rate", "9", "--in-flight", "2"]) == 1
    assert "--rate and --in-flight are different loads" in capsys.readouterr().err
    assert bench.main(["--texts", str(texts), "--stream", "--in-flight", "2"]) == 1
    assert "--in-flight counts calls" in capsys.readouterr().err
    assert bench.main(["--texts", str(texts), "--address", "127.0.0.1:1"]) == 1
    assert "127.0.0.1:1 does not answer: " in capsys.readouterr().err
    texts.write_text("\n")
    assert bench.main(["--texts", str(texts)]) == 1
    assert "holds no texts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--in-flight", "0"), "--in-flight must be at least 1, not 0"),
        (("--stream", "--streams", "-2"), "--streams must be at least 1, not -2"),
        (("--seconds", "nan"), "--seconds must be a number above 0, not nan"),
        (("--seconds", "inf"), "--seconds must be a number above 0, not inf"),
        (("--rate", "-1"), "--rate must be a number above 0, not -1"),
        (("--timeout", "0"), "--timeout must be a number above 0, not 0"),
        (("--streams", "2"), "give --stream too"),
        (("--stream", "--timeout", "5"), "a stream has none"),
        (("--in-flight", "2", "--pattern", "bursty"), "leave it or --in-flight out"),
        (("--json", "nowhere/x.json"), "there is no directory nowhere"),
        (("--plot", "nowhere/x.svg"), "there is no directory nowhere"),
        (("--plot", "x.png"), "its name must end in .svg"),
        (("--trace", "{tmp}/trace"), "must hold times, finite ones"),
        (("--adapter", "os:getcwd"), "makes nothing of an address"),
        (("--adapter", "builtins:str"), "makes no target of an address"),
        (
            ("--adapter", f"{__name__}:Echo", "--threshold", "1", "--tls"),
            "leave --threshold, --tls",
        ),
        (("--adapter", f"{__name__}:Echo", "--rate", ".01", "--seconds", ".1"), "none was due in"),
        (("--rate", "1e9"), "more than the 10,000,000 of a run"),
        (("--adapter", f"{__name__}:Silent", "--saturate", "--seconds", ".1"), "none was answered"),
        (("--stream", "--connections", "2"), "give more --streams"),
        (("--in-flight", "2", "--seed", "1"), "leave it or --in-flight out"),
        (("--trace", "{tmp}/trace", "--seconds", "1"), "says how long it is"),
        (("--address", "127.0.0.1:65536"), "must be HOST:PORT"),
    ],
)
def test_a_load_that_cannot_be_is_refused_before_it_begins(
    options: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts").write_text("fine\n")
    (tmp_path / "trace").write_text("1\nnan\n")
    given = [option.format(tmp=tmp_path) for option in options]
    where = () if "--address" in given else ("--address", "127.0.0.1:1")
    assert bench.main(["--texts", str(tmp_path / "texts"), *where, *given]) == 1
    assert told in capsys.readouterr().err


@given(capacity=st.floats(0.01, 2.5))
def test_the_search_finds_what_a_server_sustains_below_and_above_its_closed_loop(
    capacity: float,
) -> None:
    most = 100 * capacity
    search = Search(100.0, steps=6)
    while not search.done:
        search.learn(Probe(search.rate, min(search.rate, most), grew=search.rate > most))
    assert 0.85 * most <= sustained(search.probes) <= most
    assert str(Saturation(most, 100.0, tuple(search.probes))) == f"{most:.1f}"
