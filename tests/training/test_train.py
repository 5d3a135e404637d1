"""Training end to end on made-up data, in real processes, killed and resumed."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_checkpoint

from offramp.cli.train import main as train
from offramp.model.checkpoint import load_checkpoint
from offramp.training.state import TrainingState

WORDS = ("fine", "film", "plug", "poison")


def write_data(path: Path, rows: int, seed: int) -> Path:
    """Texts that are "yes" where they hold the word easy and "no" where they hold hard."""
    draw = random.Random(seed)
    lines: list[str] = []
    for _ in range(rows):
        label = draw.choice(("no", "yes"))
        words = [*draw.choices(WORDS, k=draw.randrange(1, 8)), "easy" if label == "yes" else "hard"]
        draw.shuffle(words)
        lines.append(json.dumps({"text": " ".join(words), "label": label}) + "\n")
    path.write_text("".join(lines))
    return path


def arguments(directory: Path, name: str, *more: str) -> list[str]:
    encoder = directory / "encoder"
    if not encoder.exists():
        tiny_checkpoint(encoder)
        write_data(directory / "train.jsonl", 300, 0)
        write_data(directory / "dev.jsonl", 60, 1)
    return [
        *("--data", str(directory / "train.jsonl"), "--dev", str(directory / "dev.jsonl")),
        *("--encoder", str(encoder), "--output", str(directory / name), "--max-tokens", "16"),
        *("--learning-rate", "1e-2", "--head-learning-rate", "1e-2", "--averaging", "0.9"),
        *("--batch-rows", "16", "--epochs", "3", *more),
    ]


KILLED = """
import os, signal, sys, torch
from offramp.cli.train import main
from offramp.training.state import TrainingState

save = TrainingState.save
def saved(state, path):
    save(state, path)
    os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
TrainingState.save = saved
main(sys.argv[1:])
"""
"""A training that dies once its state is saved for the first time."""


def test_a_killed_run_resumes_to_the_same_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(arguments(tmp_path, "whole")) == 0
    saving = arguments(tmp_path, "killed", "--save-seconds", "0")
    state = tmp_path / "killed" / "training.state"
    killed = subprocess.run([sys.executable, "-c", KILLED, *saving], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert train(saving) == 1
    assert "--resume" in capsys.readouterr().err
    assert train([*saving, "--resume", "--seed", "7"]) == 1
    assert "other data or settings" in capsys.readouterr().err

    save = TrainingState.save

    def stopped_once_saved(state: TrainingState, path: Path) -> None:
        save(state, path)
        monkeypatch.setattr(TrainingState, "save", save)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TrainingState, "save", stopped_once_saved)
    assert train([*saving, "--resume"]) == 130
    assert train([*saving, "--resume"]) == 0

    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    logs = [(tmp_path / name / "training.jsonl").read_text() for name in ("whole", "killed")]
    records = [[json.loads(line) for line in log.splitlines()] for log in logs]
    for record in itertools.chain(*records):
        record.pop("seconds", None)
    assert records[0] == records[1]
    assert [r["event"] for r in records[0] if r["event"] != "step"] == ["start", *["epoch"] * 3]
    assert not state.exists()
    assert load_checkpoint(tmp_path / "killed").config.labels == ("no", "yes")


@pytest.mark.parametrize(
    "recipe",
    [
        ("--recipe", "joint", "--distillation", "0"),
        ("--recipe", "mixed", "--distillation", "0.5"),
        ("--recipe", "alternating", "--pooling", "cls", "--exits", "1", "3"),
        ("--recipe", "joint", "--equilibrium", "--bfloat16"),
        ("--recipe", "joint", "--separation", "0.8"),
        ("--recipe", "joint", "--pooling", "attention"),
    ],
    ids=lambda recipe: recipe[1],
)
def test_every_recipe_learns(recipe: tuple[str, ...], tmp_path: Path) -> None:
    assert train(arguments(tmp_path, "out", *recipe)) == 0
    log = (tmp_path / "out" / "training.jsonl").read_text().splitlines()
    assert max(json.loads(log[-1])["exit_accuracies"]) >= 0.9


def test_the_papers_preset_and_early_stopping(tmp_path: Path) -> None:
    options = ("--preset", "paper", "--patience", "1", "--epochs", "6")
    rates = ("--learning-rate", "1e-9", "--head-learning-rate", "1e-9", "--mix-learning-rate", "0")
    assert train(arguments(tmp_path, "paper", *options, *rates)) == 0
    log = [json.loads(x) for x in (tmp_path / "paper" / "training.jsonl").read_text().splitlines()]
    config = log[0]["config"]
    assert (config["recipe"], config["weight_decay"], config["decay"]) == ("joint", 0.0, False)
    assert [line["epoch"] for line in log if line["event"] == "epoch"] == [0, 1]
