"""`offramp simulate`: the flags, the figures, errors that say what to do."""

import json
from pathlib import Path

import pytest
from tiny import tiny_checkpoint

from offramp.cli.main import main

LIMITS = ["--fixed-cost", "8", "--row-cost", "1", "--max-batch-rows", "16"]
BASE = ["simulate", *LIMITS, "--requests", "400", "--seed", "3"]
SHARES = ["--exit-shares", ".5", ".25", ".25"]


def run(capsys: pytest.CaptureFixture[str], *extra: str) -> dict[str, float]:
    assert main([*BASE, *SHARES, *extra, "--json"]) == 0
    figures: dict[str, float] = json.loads(capsys.readouterr().out)
    return figures


def test_the_figures_of_a_run_are_printed_and_repeat(capsys: pytest.CaptureFixture[str]) -> None:
    first = run(capsys, "--load", ".8", "--policy", "adaptive")
    assert {"p50", "mean", "p99", "max", "fill", "throughput"} <= first.keys()
    assert first["p50"] <= first["p99"] <= first["max"]
    assert first["answered"] == 400
    assert run(capsys, "--load", ".8", "--policy", "adaptive") == first
    assert run(capsys, "--load", ".8", "--policy", "no-exits")["mean"] > first["mean"]


def test_every_policy_and_a_bursty_process(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*BASE, *SHARES, "--policy", "all", "--load", ".3", "--arrivals", "bursty"]
    assert main([*arguments, "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert len(runs) == 11
    assert all(one["answered"] == 400 for one in runs)
    assert main(arguments) == 0
    assert "adaptive" in capsys.readouterr().out


def test_deadlines_replicas_and_a_trace(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    hurried = run(capsys, "--load", "1.5", "--deadline", "60")
    assert hurried["late"] + hurried["refused"] > 0
    assert hurried["max"] < 90
    few = run(capsys, "--rate", "2", "--p99", "400")["replicas"]
    assert run(capsys, "--rate", "2", "--p99", "100")["replicas"] >= few >= 1
    trace = tmp_path / "trace.txt"
    trace.write_text("\n".join(str(1000 + 3 * at) for at in range(50)), encoding="utf-8")
    recorded = run(capsys, "--trace", str(trace))
    assert recorded["answered"] == 50
    assert recorded["rate"] == pytest.approx(1 / 3)
    assert run(capsys, "--trace", str(trace), "--p99", "100")["replicas"] >= 1
    image = tmp_path / "latency.png"
    for option, value in (
        ("--plot", str(image)),
        ("--load", ".5"),
        ("--rate", "9"),
        ("--arrivals", "poisson"),
    ):
        assert main([*BASE, "--trace", str(trace), option, value, "--json"]) == 1
        shown = capsys.readouterr()
        assert not shown.out
        assert f"a load of its own; leave it or {option} out" in shown.err
    assert not image.exists()
    assert main([*BASE, "--load", ".5", "--rate", "9"]) == 1
    assert "leave it or --load out" in capsys.readouterr().err


def test_the_plot(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    image = tmp_path / "latency.png"
    run(capsys, "--plot", str(image))
    assert image.read_bytes().startswith(b"\x89PNG")


def test_a_checkpoint_is_served_first_and_then_simulated(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "words")
    data = tmp_path / "dev.jsonl"
    words = ("easy", "hard film", "fine fine fine film")
    rows = [{"sentence": words[at % 3], "label": "yes"} for at in range(30)]
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    given = ["simulate", "--checkpoint", str(checkpoint), "--data", str(data), "--requests", "200"]
    given += ["--text-column", "sentence"]
    assert main([*given, "--json", "--load", ".5"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["answered"] == 200
    assert 0 < figures["p50"] <= figures["p99"]
    assert main([*given[:3]]) == 1
    assert "name them with --data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["--policy", "nonsense"], "no policy 'nonsense'"),
        (["--exit-shares", ".5", ".2"], "sum to 1"),
        (["--row-cost", "0"], "--row-cost above 0"),
        (["--rate", "1", "--p99", "0.001"], "takes longer"),
    ],
)
def test_what_cannot_be_meant(
    extra: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*BASE, *extra]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--deadline", "nan"), "--deadline must be a number above 0, not nan"),
        (("--deadline", "-1"), "--deadline must be a number above 0, not -1"),
        (("--load", "inf"), "--load must be a number above 0, not inf"),
        (("--rate", "inf"), "--rate must be a number above 0, not inf"),
        (("--p99", "-5"), "--p99 must be a number above 0, not -5"),
        (("--bulk", "5"), "--bulk must be in 0 to 1, not 5"),
        (("--fixed-cost", "inf"), "both finite"),
        (("--p99", "5", "--load", ".2", ".5"), "one policy at one load"),
        (("--p99", "5", "--policy", "all"), "one policy at one load"),
        (("--p99", "5", "--plot", "x.png"), "one policy at one load"),
        (("--threshold", ".9"), "name it, --checkpoint"),
        (("--data", "texts"), "name it, --checkpoint"),
        (("--plot", "nowhere/x.png"), "there is no directory nowhere"),
        (("--plot", "x.foo"), "its name must end in"),
        (("--policy", "foo", "--checkpoint", "nowhere", "--data", "x"), "no policy 'foo'"),
        (("--trace", "{tmp}/words"), "words is no trace"),
        (("--trace", "{tmp}/endless"), "endless must hold times, finite ones"),
        (("--checkpoint", "x", "--data", "y", "--row-cost", "2"), "leave it or --row-cost out"),
        (("--text-column", "words"), "name it, --checkpoint"),
        (("--fail",), "--fail is at a --deadline"),
    ],
)
def test_what_no_run_can_have_is_refused_before_it_begins(
    options: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words").write_text("soon\n")
    (tmp_path / "endless").write_text("1\n2\nnan\n")
    assert main(["simulate", *(option.format(tmp=tmp_path) for option in options)]) == 1
    assert told in capsys.readouterr().err


def test_bursts_are_dealt_among_replicas_and_not_made_longer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    needs = ("--p99", "300", "--rate", "3", "--requests", "4000")
    smooth, bursty = (
        run(capsys, *needs, "--arrivals", pattern)["replicas"] for pattern in ("poisson", "bursty")
    )
    assert smooth <= bursty <= 2 * smooth


def test_replicas_that_fail_requests_are_too_few(capsys: pytest.CaptureFixture[str]) -> None:
    hurried = ("--rate", "2", "--deadline", "70", "--fail", "--p99", "400")
    found = run(capsys, *hurried)
    assert (found["failed"], found["refused"]) == (0, 0)
    assert found["replicas"] > run(capsys, "--rate", "2", "--p99", "400")["replicas"]


def test_a_trace_is_played_whole_or_as_far_as_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offramp.cli.simulate.REQUESTS", 20)
    trace = tmp_path / "trace.txt"
    times = [*range(30), *(30 + at / 4 for at in range(31))]
    trace.write_text("\n".join(map(str, times)), encoding="utf-8")
    assert main(["simulate", *LIMITS, *SHARES, "--trace", str(trace), "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["answered"] == 61
    assert whole["rate"] == pytest.approx(60 / 37.5)
    part = run(capsys, "--trace", str(trace), "--requests", "31")
    assert part["answered"] == 31
    assert part["rate"] == pytest.approx(1)


def test_no_replica_gets_more_than_it_can_do_however_loose_the_target(
    capsys: pytest.CaptureFixture[str],
) -> None:
    costs = ("--fixed-cost", ".001", "--row-cost", ".001", "--max-batch-rows", "32")
    loose = (*costs, "--exit-shares", "1", "--p99", "1")  # 969.7 a second
    assert run(capsys, *loose, "--rate", "1000")["replicas"] == 2
    assert run(capsys, *loose, "--rate", "900")["replicas"] == 1
