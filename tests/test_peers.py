"""The comparison with other servers, without any: what is tried, what the tables say, what ends."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import pytest
from catalog import PEERS, Setting
from compare import parser
from comparison import Comparison
from measure import Bench, Subject
from process import started
from record import FULL_DEPTH, OURS, rivals_of, setting_of
from table import PAGE, filled, ratios, settings, table
from threshold import LOSS, of_equal_quality
from tiny import tiny_checkpoint

from offramp.cli.load.saturation import Probe

CHILD = """
import subprocess, sys, time
if sys.argv[1] == "parent":
    subprocess.Popen([sys.executable, sys.argv[0], "child"], start_new_session=True)
time.sleep(60)
"""


def served(rate: float, *, bounded: bool = True) -> dict[str, Any]:
    probes = [Probe(rate, rate, grew=False), Probe(1.1 * rate, rate, grew=bounded)]
    return {
        "bare_forward": {"p50_ms": 5.0},
        "one_in_flight": {"p50": 10.0},
        "cpu_ms_per_answer": 9.0,
        "saturation": {"probes": [asdict(probe) for probe in probes]},
    }


def tail(p99: float | None) -> dict[str, Any]:
    return {"poisson": {"p99": p99}, "bursty": {"p99": p99 and 2 * p99}}


def tried(batch: int, rate: float, **more: object) -> dict[str, Any]:
    return {"batch": batch, "threads": 2, "wait": 0.0, "answered_per_second": rate, **more}


RECORD: dict[str, Any] = {
    "padded": False,
    "tried": {
        "grpc.aio": [tried(1, 150.0), tried(4, 140.0)],
        "Triton": [tried(1, 90.0), tried(4, 120.0)],
        "BentoML": [tried(1, 0.0, failed="never answered; it said nothing")],
    },
    "served": {
        OURS: served(500.0),
        FULL_DEPTH: served(160.0),
        "grpc.aio": served(120.0),
        "Triton": served(100.0),
    },
    "rounds": [
        {"grpc.aio": served(120.0), OURS: served(300.0), FULL_DEPTH: served(156.0)},
        {"grpc.aio": served(128.0), OURS: served(352.0), FULL_DEPTH: served(160.0)},
    ],
    "tails": [
        {"grpc.aio": tail(100.0), OURS: tail(20.0)},
        {"grpc.aio": tail(200.0), OURS: tail(30.0)},
    ],
}


def test_the_best_setting_is_that_which_answers_most_and_pads_if_it_must() -> None:
    assert setting_of(RECORD, "grpc.aio") == (Setting(1, 2, 0.0), 150.0)
    assert setting_of({**RECORD, "padded": True}, "grpc.aio") == (Setting(4, 2, 0.0), 140.0)
    assert setting_of(RECORD, "BentoML") == (None, 0.0)


def test_threads_and_waits_are_tried_of_the_best_batch() -> None:
    found = list(PEERS["LitServe"].settings(lambda: Setting(8, 2, 0.001)))
    assert found[:3] == [Setting(1, 2, 0.0), Setting(4, 2, 0.001), Setting(8, 2, 0.001)]
    on_a_core_each = [Setting(one.batch, 1, one.wait, workers=2) for one in found[:3]]
    asleep = Setting(8, 2, 0.001, spins=False)
    assert found[3:] == [*on_a_core_each, Setting(8, 2, 0.005), asleep]
    assert str(asleep) == "batches to 8, 2 threads, waits 1 ms, asleep when idle"
    on_a_core = list(PEERS["LitServe"].settings(lambda: on_a_core_each[0]))
    assert all(one.spins for one in on_a_core)


def test_tables_tell_medians_ratios_of_rounds_and_failures() -> None:
    lines = table(RECORD).splitlines()
    assert lines[2].startswith("| offramp | 10.0 (10.0 to 10.0) | 2.00")
    assert "| 326 (300 to 352) | 25 (20 to 30) | 50 (40 to 60) |" in lines[2]
    assert "| Triton, batches to 4, 2 threads | 10.0 | 2.00 | 9.0 | 100 |  |  |" in lines
    assert "| BentoML | never answered; it said nothing |" in table(RECORD)
    told = ratios(RECORD)
    assert "| saturation, default threshold | 2.62 (2.50 to 2.75) | 2.5 |" in told
    assert "| p99 at 80 % of grpc.aio's saturation, poisson | 0.17 (0.15 to 0.20) | 0.20 |" in told
    assert "| BentoML 1.4.39 | did not start |" in settings(RECORD)


def test_peers_that_may_be_the_best_are_all_told_the_best_first() -> None:
    assert rivals_of(RECORD) == ["grpc.aio"]
    near = {**RECORD, "served": {**RECORD["served"], "Triton": served(110.0)}}
    assert rivals_of(near) == ["grpc.aio", "Triton"]
    assert "| ours over the best peers | grpc.aio | Triton | asked |" in ratios(near)
    assert "| saturation, full depth | 1.27 (1.25 to 1.30) | owed | 1.15 |" in ratios(near)
    near["rounds"] = [{**done, "Triton": served(130.0)} for done in RECORD["rounds"]]
    assert rivals_of(near) == ["Triton", "grpc.aio"]
    assert rivals_of({**RECORD, "served": {OURS: served(300.0)}}) == []


def test_a_saturation_that_was_not_found_and_messages_without_answers_are_told() -> None:
    record = {
        **RECORD,
        "rounds": [
            {OURS: served(300.0), "grpc.aio": served(100.0)},
            {OURS: served(300.0), "grpc.aio": served(120.0, bounded=False)},
        ],
        "tails": [{OURS: tail(None), "grpc.aio": tail(100.0)}],
    }
    assert "| at least 110 (100 to 120) |" in table(record)
    assert "| saturation, default threshold | at most 2.75 (2.50 to 3.00) | 2.5 |" in ratios(record)
    assert "| p99 at 80 % of grpc.aio's saturation, poisson | inf | 0.20 |" in ratios(record)


def test_the_page_has_the_tables_of_the_committed_figures() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page) == page


class FakeBench(Bench):
    """Each server answers the same rate in every look; who is looked at is kept."""

    seen: ClassVar[list[tuple[str, float]]] = []

    def served(self, subject: Subject, seconds: float) -> dict[str, Any]:
        name = str(subject.told["name"])
        self.seen.append((name, seconds))
        return served({OURS: 300.0, FULL_DEPTH: 150.0, "grpc.aio": 120.0}.get(name, 110.0))

    def tail(self, subject: Subject, rate: float, seed: int) -> dict[str, Any]:
        self.seen.append((str(subject.told["name"]), seed))
        return {"rate": rate, **tail(10.0)}


class FakeComparison(Comparison):
    """Nothing is started."""

    @property
    def bench(self) -> Bench:
        return FakeBench([], [], Path(), 4)

    def _subject(self, name: str) -> Subject:
        return Subject(lambda _: [], lambda _: pytest.fail("called"), {"name": name})


def test_those_that_may_be_the_best_are_measured_in_whole_rounds(tmp_path: Path) -> None:
    file = tmp_path / "peers.json"
    record = {**RECORD, "texts": ["a/texts"], "max_tokens": 0, "served": {}}
    file.write_text(json.dumps({**record, "rounds": [], "tails": []}), encoding="utf-8")
    args = parser().parse_args(["--texts", "a/texts", "--json", str(file), "--rounds", "2"])
    args.peers = ["grpc.aio", "Triton", "BentoML"]

    def go_on() -> list[str]:
        run = FakeComparison(args)
        FakeBench.seen.clear()
        told: list[str] = []
        while part := next(run.parts(), None):
            part[1]()
            told.append(part[0])
        run.save()
        return told

    args.tails = 1
    go_on()
    first = ["grpc.aio", OURS, FULL_DEPTH, "offramp, bfloat16", "Triton"]
    in_turn = ["grpc.aio", "Triton", OURS, FULL_DEPTH]
    wanted = [(name, 10.0) for name in first] + [(name, 20.0) for name in 2 * in_turn]
    assert FakeBench.seen == [*wanted, *((name, 0) for name in in_turn[:3])]
    assert go_on() == []  # all is done
    args.tails = 2
    assert go_on() == ["grpc.aio, Triton, offramp: tails, 2 of 2"]
    assert [seed for _, seed in FakeBench.seen] == [1, 1, 1]
    run = FakeComparison(args)
    del run.record["tails"][0]["Triton"]  # as where it was no rival then
    part = next(run.parts(), None)
    assert part is not None
    assert part[0] == "grpc.aio, Triton, offramp: tails, 1 of 2"
    run.forget("Triton")
    assert not run.record["rounds"]
    assert not run.record["tails"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_server_ends_with_children_that_left_its_group(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(CHILD)
    command = [sys.executable, str(script), "parent"]
    with started(lambda _: command, {"batch": 1}, tmp_path / "log") as server:
        while len(server.processes()) < 2:
            pass
        assert server.cpu_seconds() >= 0
    assert not server.processes()


def test_the_table_tells_a_threshold_that_was_chosen_on_dev() -> None:
    chosen = {**RECORD, "quality": {"threshold": 0.9}}
    assert "| saturation, threshold 0.9 (dev) | 2.62 (2.50 to 2.75) |" in ratios(chosen)


def test_a_threshold_of_equal_quality_loses_little_on_dev(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "tiny")
    files: list[Path] = []
    for name in ("dev", "test"):
        file = tmp_path / f"{name}.jsonl"
        texts = [("easy film", 1), ("hard film", 0), ("fine shift", 1), ("void plug", 0)] * 5
        lines = [json.dumps({"text": text, "label": label}) for text, label in texts]
        file.write_text("\n".join(lines), encoding="utf-8")
        files.append(file)
    found = of_equal_quality(checkpoint, files[:1] * 2, files[1:])
    assert found["dev_accuracy_drop"] <= LOSS
    assert found["test_accuracy_drop"] == found["dev_accuracy_drop"]
    assert 1 <= found["test_layers_a_token"] <= 3
