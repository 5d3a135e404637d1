"""`offramp bench`: what it writes, what it refuses, what it says of a server that goes away."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from service import word_service
from test_load import Echo

from offramp.cli import bench
from offramp.cli.load.inputs import read_inputs
from offramp.cli.load.saturation import Probe, Saturation
from offramp.cli.load.target import Reply


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
    where = ["--texts", str(texts), "--adapter", f"{Echo.__module__}:Echo", "--json", str(figures)]
    assert bench.main([*where, "--saturate"]) == 130
    tried = {"rate": 100.0, "answered": 99.0, "grew": False, "errors": {}}
    assert json.loads(figures.read_text())["saturation"] == {"rate": None, "probes": [tried]}


def test_a_search_tells_errors_that_it_counts_against_a_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts"
    texts.write_text("film\nbad\n")
    where = ["--texts", str(texts), "--adapter", f"{Echo.__module__}:Echo"]
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
    assert bench.main(["--texts", str(texts), "--adapter", f"{Echo.__module__}:Echo"]) == 1
    assert f"{texts} holds pairs, where single texts are expected" in capsys.readouterr().err


class Silent(Echo):
    """A server that answers nobody any more once two ask at a time."""

    async def classify(self, text: str) -> Reply:
        reply = await super().classify(text)
        if self.most_held > 1:
            raise ConnectionError
        return reply


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
            ("--adapter", f"{Echo.__module__}:Echo", "--threshold", "1", "--tls"),
            "leave --threshold, --tls",
        ),
        (
            ("--adapter", f"{Echo.__module__}:Echo", "--rate", ".01", "--seconds", ".1"),
            "none was due in",
        ),
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
