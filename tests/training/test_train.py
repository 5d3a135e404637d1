"""Training end to end on made-up data, in real processes, killed and resumed."""

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import ENCODER, MAX_TOKENS, tiny_checkpoint

from offramp.cli.progress import RunScreen
from offramp.cli.train import main as train
from offramp.model.checkpoint import load_checkpoint, save_checkpoint
from offramp.model.config import ModelConfig, Pooling
from offramp.model.exits import MultiExitModel
from offramp.training.recipe import TrainingConfig
from offramp.training.state import TrainingState, fingerprint

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
from offramp.training.recipe import TrainingConfig
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


def test_the_average_of_a_short_run_is_not_the_weights_it_began_with(tmp_path: Path) -> None:
    averaging = ("--averaging", str(TrainingConfig().averaging))
    assert train(arguments(tmp_path, "out", *averaging)) == 0
    log = (tmp_path / "out" / "training.jsonl").read_text().splitlines()
    assert max(json.loads(log[-1])["exit_accuracies"]) >= 0.9


def refitted(directory: Path, positions: int) -> Path:
    """The checkpoint of another encoder: other weights, as many positions."""
    made = load_checkpoint(tiny_checkpoint(directory))
    encoder = replace(made.config.encoder, positions=positions)
    config = replace(made.config, encoder=encoder, max_tokens=positions)
    torch.manual_seed(1)
    save_checkpoint(replace(made, config=config, model=MultiExitModel(config)), directory)
    return directory


def test_a_teacher_must_read_what_the_student_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short, foreign = refitted(tmp_path / "short", 12), tiny_checkpoint(tmp_path / "foreign")
    definition = (foreign / "tokenizer.json").read_text()
    swapped = (
        definition.replace('"easy"', '"x"').replace('"hard"', '"easy"').replace('"x"', '"hard"')
    )
    (foreign / "tokenizer.json").write_text(swapped)
    assert train(arguments(tmp_path, "out", "--teacher", str(short))) == 1
    assert "short: the teacher reads 12 tokens at most" in capsys.readouterr().err
    assert train(arguments(tmp_path, "out", "--teacher", str(foreign))) == 1
    assert "foreign: the teacher's tokenizer is not the encoder's" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    cut = {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    (foreign / "tokenizer.json").write_text(
        json.dumps({**json.loads(definition), "truncation": cut})
    )
    common = ("--max-tokens", "12", "--epochs", "1", "--recipe", "joint")
    for name, teacher in (("one", short), ("two", foreign)):
        assert train(arguments(tmp_path, name, *common, "--teacher", str(teacher))) == 0


def test_a_run_goes_on_with_its_teacher_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, other = tiny_checkpoint(tmp_path / "teacher"), refitted(tmp_path / "other", 16)
    common = arguments(tmp_path, "out", "--save-seconds", "0")
    save = TrainingState.save

    def stopped_once_saved(state: TrainingState, path: Path) -> None:
        save(state, path)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TrainingState, "save", stopped_once_saved)
    assert train([*common, "--teacher", str(teacher)]) == 130
    assert re.search(r"the teacher has read (\d+) of \1 texts", capsys.readouterr().err)
    for options in ([], ["--teacher", str(other)]):
        assert train([*common, "--resume", *options]) == 1
        assert "other data or settings" in capsys.readouterr().err
    monkeypatch.setattr(TrainingState, "save", save)
    assert train([*common, "--resume", "--teacher", str(teacher)]) == 0


def test_a_run_stops_while_its_teacher_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = tiny_checkpoint(tmp_path / "teacher")
    tell = RunScreen.teach

    def stopped_once_told(screen: RunScreen, done: int, total: int) -> None:
        tell(screen, done, total)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(RunScreen, "teach", stopped_once_told)
    common = arguments(tmp_path, "out", "--teacher", str(teacher))
    assert train(common) == 130
    assert "the same command begins anew" in capsys.readouterr().out
    monkeypatch.setattr(RunScreen, "teach", tell)
    assert train(common) == 0


@pytest.mark.parametrize("name", ["encoder.layers.0.qkv.weight", "pooler.weight", "heads.0.mix"])
def test_a_run_is_told_by_every_weight_that_it_starts_from(name: str) -> None:
    config = ModelConfig(ENCODER, ("no", "yes"), (1, 2, 3), Pooling.CLS, MAX_TOKENS)
    model = MultiExitModel(config)
    before = fingerprint(TrainingConfig(), (), (), model, None)
    assert fingerprint(TrainingConfig(), (), (), model, None) == before
    weight = model.get_parameter(name).detach()
    weight.copy_(weight.flip(0) if weight.count_nonzero() else weight + 1)
    assert fingerprint(TrainingConfig(), (), (), model, None) != before


SLOWLY = ("--learning-rate", "1e-9", "--head-learning-rate", "1e-9", "--mix-learning-rate", "0")


def epochs_of(directory: Path) -> list[int]:
    log = (directory / "training.jsonl").read_text().splitlines()
    return [line["epoch"] for line in map(json.loads, log) if line["event"] == "epoch"]


def test_epochs_of_the_last_exit_alone_do_not_tire_a_run(tmp_path: Path) -> None:
    options = ("--recipe", "mixed", "--last-exit-epochs", "3", "--epochs", "7", "--patience", "2")
    assert train(arguments(tmp_path, "out", *options, *SLOWLY)) == 0
    assert epochs_of(tmp_path / "out") == [0, 1, 2, 3, 4, 5]


def test_an_epoch_of_the_last_exit_alone_is_not_the_best_once_all_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = iter([0.9, 0.5, 0.6, 0.4])
    monkeypatch.setattr("offramp.training.run.exit_accuracies", lambda *_: [next(scripted)] * 3)
    best: list[int] = []
    save = TrainingState.save

    def saved(state: TrainingState, path: Path) -> None:
        best.append(state.position.best_epoch)
        save(state, path)

    monkeypatch.setattr(TrainingState, "save", saved)
    assert train(arguments(tmp_path, "out", "--recipe", "mixed", "--epochs", "4")) == 0
    assert best == [0, 1, 2, 2]


@pytest.mark.parametrize("option", [("--equilibrium",), ("--separation", "0.8")], ids=" ".join)
def test_steps_of_the_last_exit_alone_are_those_of_a_plain_run(
    option: tuple[str, ...], tmp_path: Path
) -> None:
    common = ("--epochs", "2", "--gradient-norm", "0.01")
    logs: list[list[dict[str, object]]] = []
    for name, more in (("plain", ()), ("scaled", option)):
        assert train(arguments(tmp_path, name, *common, *more)) == 0
        lines = (tmp_path / name / "training.jsonl").read_text().splitlines()[1:]
        logs.append([{**json.loads(line), "seconds": 0} for line in lines])
    plain, scaled = ([line for line in log if line["epoch"] == 0] for log in logs)
    assert plain == scaled
    assert logs[0] != logs[1]


def test_the_papers_preset_and_early_stopping(tmp_path: Path) -> None:
    options = ("--preset", "paper", "--patience", "1", "--epochs", "6")
    rates = ("--learning-rate", "1e-9", "--head-learning-rate", "1e-9", "--mix-learning-rate", "0")
    assert train(arguments(tmp_path, "paper", *options, *rates)) == 0
    log = [json.loads(x) for x in (tmp_path / "paper" / "training.jsonl").read_text().splitlines()]
    config = log[0]["config"]
    assert (config["recipe"], config["weight_decay"], config["decay"]) == ("joint", 0.0, False)
    assert [line["epoch"] for line in log if line["event"] == "epoch"] == [0, 1]
