"""Evaluation on a tiny checkpoint: curves, the clock's early exits, and the page."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import tiny_checkpoint

from offramp.cli.calibrate import main as calibrate
from offramp.cli.evaluate import main as evaluate_command
from offramp.model.checkpoint import Checkpoint, load_checkpoint
from offramp.model.errors import CheckpointError
from offramp.model.rules import ExitRule, RuleKind
from offramp.training.batches import tokenize
from offramp.training.bootstrap import draws_of, intervals
from offramp.training.calibrate import CalibrationConfig
from offramp.training.calibrate import calibrate as calibrate_checkpoint
from offramp.training.clock import EarlyExits, time_thresholds
from offramp.training.data import UNLABELLED, Dataset, Example, load_dataset
from offramp.training.evaluate import evaluate
from offramp.training.plots import exits_by_group, svg

WORDS = ("plug", "poison", "easy", "hard", "fine", "film")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A tiny checkpoint and a file of 120 texts with random labels."""
    draw = random.Random(0)
    tiny_checkpoint(tmp_path / "tiny")
    records = [
        {"text": " ".join(draw.choices(WORDS, k=draw.randrange(1, 9))), "label": draw.randrange(2)}
        for _ in range(120)
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "test.jsonl").write_text(lines)
    return tmp_path


@pytest.mark.parametrize("kind", list(RuleKind))
def test_rows_really_leave_where_the_sweep_says(kind: RuleKind, directory: Path) -> None:
    checkpoint = load_checkpoint(directory / "tiny")
    rule = ExitRule(kind, (0.5, 1.0, 2.0))
    calibration = replace(checkpoint.calibration, rule=rule)
    dataset = load_dataset(directory / "test.jsonl", checkpoint.config.labels)
    rows = tokenize(dataset.examples, checkpoint.tokenizer)
    for threshold in (0.0, 0.3, 0.51, 0.6, 0.7, 1.0):
        tried = replace(calibration, default_threshold=threshold)
        evaluated = evaluate(checkpoint.with_calibration(tried), dataset)
        early = EarlyExits(checkpoint.with_calibration(tried), rule, torch.device("cpu"))
        batch = sorted(rows, key=lambda row: len(row.tokens))
        labels, exits = early.answer(batch, threshold)
        places = [row.index for row in batch]
        same = exits == evaluated.sweep.exits[0, places]
        assert same.double().mean() >= 0.98  # a score may lie on the threshold
        expected = evaluated.logits.argmax(-1)[exits, places]
        assert torch.equal(labels, expected)


def test_timing_compares_with_full_depth(directory: Path) -> None:
    checkpoint = load_checkpoint(directory / "tiny")
    dataset = Dataset((Example("easy film", None, 0),) * 40, checkpoint.config.labels)
    rows = tokenize(dataset.examples, checkpoint.tokenizer)
    early = EarlyExits(checkpoint, ExitRule(), torch.device("cpu"))
    (timing,) = time_thresholds(early, rows, (0.0,))
    assert 0 < timing.lowest <= timing.wall_clock_speedup <= timing.highest


def test_bootstrap_intervals_shrink_with_the_sample() -> None:
    draw = torch.Generator().manual_seed(0)
    widths: list[float] = []
    for rows in (100, 1600):
        values = torch.rand(1, rows, generator=draw) < 0.8
        ((low, high),) = intervals(values, draws_of(rows))
        assert low < values.double().mean() < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.25)
    assert widths[0] == pytest.approx(2 * 1.96 * 0.04, rel=0.25)


def test_the_command_writes_figures_curves_and_a_page(directory: Path) -> None:
    checkpoint, data = str(directory / "tiny"), str(directory / "test.jsonl")
    assert calibrate(["--checkpoint", checkpoint, "--data", data, "--rule", "agreement"]) == 0
    outputs = [directory / f"out.{kind}" for kind in ("json", "png", "html")]
    written = [part for path in outputs for part in (f"--{path.suffix[1:]}", str(path))]
    common = ["--checkpoint", checkpoint, "--data", data, "--timed-rows", "8"]
    assert evaluate_command([*common, *written]) == 0
    figures = json.loads(outputs[0].read_text())
    assert figures["rule"] == "agreement"
    assert [rule["kind"] for rule in figures["rules"]] == list(RuleKind)
    assert figures["points"][-1]["threshold"] == 1
    assert figures["points"][-1]["agreement"] == 1
    assert figures["points"][-1]["accuracy"] == figures["accuracy_full"]
    wanted = {"threshold", "accuracy", "agreement", "mean_layers", "layer_speedup"}
    assert wanted <= figures["points"][0].keys()
    for rule in figures["rules"]:
        speedups = [timing["layer_speedup"] for timing in rule["timings"]]
        assert speedups == sorted(speedups, reverse=True)
        assert speedups[0] > speedups[-1] == 1
    assert outputs[1].read_bytes().startswith(b"\x89PNG")
    page = outputs[2].read_text()
    assert page.count("<svg") == 5
    assert "<script" not in page
    assert 'src="' not in page
    assert "easy" in page


def test_the_default_threshold_of_the_own_rule_is_timed(directory: Path) -> None:
    path = directory / "tiny" / "exits.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "default_threshold": 0.777}))
    common = ["--checkpoint", str(directory / "tiny"), "--data", str(directory / "test.jsonl")]
    out = directory / "out.json"
    assert evaluate_command([*common, "--timed-rows", "4", "--json", str(out)]) == 0
    timed = {
        rule["kind"]: [timing["threshold"] for timing in rule["timings"]]
        for rule in json.loads(out.read_text())["rules"]
    }
    assert [kind for kind, thresholds in timed.items() if 0.777 in thresholds] == ["max_prob"]
    assert timed["max_prob"] == sorted(timed["max_prob"])


def test_a_report_on_few_rows_tells_each_once_and_takes_any_label(directory: Path) -> None:
    figure = svg(exits_by_group([("$10_$ (50% right)", (0.5, 0.5))], (1, 2)))
    assert figure.startswith("<svg")
    few = directory / "few.jsonl"
    few.write_text("".join(f'{{"text": "film {word}", "label": 0}}\n' for word in WORDS[:3]))
    more = directory / "more.jsonl"
    more.write_text("".join(f'{{"text": "film {word}", "label": 0}}\n' for word in WORDS[3:5]))
    out = directory / "out.html"
    common = ["--checkpoint", str(directory / "tiny"), "--data", str(few), str(more)]
    assert evaluate_command([*common, "--timed-rows", "0", "--html", str(out)]) == 0
    page = out.read_text()
    assert "few.jsonl, more.jsonl" in page
    assert [page.count(f"film {word}<") for word in WORDS[:5]] == [2] * 5


def test_timing_fewer_than_no_rows_is_refused(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--checkpoint", str(directory / "tiny"), "--data", str(directory / "test.jsonl")]
    with pytest.raises(SystemExit):
        evaluate_command([*common, "--timed-rows", "-5"])
    assert "--timed-rows: must be a number, 0 or more" in capsys.readouterr().err


def test_copies_among_the_examples_of_a_promise_are_told(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once = [f'{{"text": "film {"easy " * at}", "label": {at % 2}}}\n' for at in range(30)]
    data = directory / "copies.jsonl"
    data.write_text("".join(once))
    common = ["--checkpoint", str(directory / "tiny"), "--data"]
    for copies, told in ((1, False), (3, True)):
        assert calibrate([*common, *[str(data)] * copies]) == 0
        assert ("60 examples repeat others" in capsys.readouterr().out) is told


def test_calibration_draws_reliability(directory: Path) -> None:
    common = ["--checkpoint", str(directory / "tiny"), "--data", str(directory / "test.jsonl")]
    assert calibrate([*common, "--png", str(directory / "out.png")]) == 0
    assert (directory / "out.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("command", [calibrate, evaluate_command])
def test_a_gpu_is_used_where_there_is_one(
    command: Callable[[Sequence[str]], int],
    gpu: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    devices: list[torch.device] = []

    def load(_: Path, device: torch.device) -> Checkpoint:
        devices.append(device)
        raise CheckpointError(Path("tiny"), "is not loaded")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(f"{command.__module__}.load_checkpoint", load)
    assert command(["--checkpoint", "tiny", "--data", "test.jsonl"]) == 1
    assert devices == [torch.device("cuda" if gpu else "cpu")]


def test_texts_of_the_data_do_not_tune_the_thresholds(directory: Path) -> None:
    checkpoint = load_checkpoint(directory / "tiny")
    dataset = load_dataset(directory / "test.jsonl", checkpoint.config.labels)
    known = [replace(example, label=UNLABELLED) for example in dataset.examples]
    others = [replace(example, text_pair="shift plug") for example in known[:40]]
    config = CalibrationConfig(budget=1.8)
    expected = calibrate_checkpoint(checkpoint, dataset, config, others)
    assert calibrate_checkpoint(checkpoint, dataset, config, [*known, *others]) == expected
    with pytest.raises(ValueError, match="all 120 unlabelled texts are among the labelled"):
        calibrate_checkpoint(checkpoint, dataset, config, known)
