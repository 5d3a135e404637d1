"""A damaged or foreign checkpoint gets an error that names file and cause."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from errno import ENOSPC
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from service import SHIPPED
from tiny import tiny_checkpoint

from offramp.model import checkpoint as checkpoints
from offramp.model.calibration import Calibration
from offramp.model.checkpoint import load_checkpoint, save_calibration, save_checkpoint
from offramp.model.directory import digest_of, name_of
from offramp.model.errors import CheckpointError


def test_the_shipped_checkpoint_is_small_and_calibrated() -> None:
    checkpoint = load_checkpoint(SHIPPED)
    assert checkpoint.config.labels == ("negative", "positive")
    assert checkpoint.calibration.table
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 48_000_000


POINT = {
    "threshold": 1.0,
    "accuracy": 0.9,
    "accuracy_drop": 0.0,
    "agreement": 1.0,
    "mean_layers": 6.0,
    "layer_speedup": 1.0,
}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def foreign(path: Path) -> None:
    path.write_text(json.dumps({"model_type": "bert"}))


def misspelt(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "rull": 1}))


def misspelt_rule(path: Path) -> None:
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "rule": {**values["rule"], "exponent": []}}))


def set_to(*path: str, value: object) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        values = json.loads(file.read_text())
        place = values
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        file.write_text(json.dumps(values))

    return damage


@pytest.mark.parametrize(
    ("name", "damage", "cause"),
    [
        ("config.json", set_to("model", "encoder", value="x"), "not a valid model"),
        ("config.json", set_to("model", "encoder", "layers", value=6.0), "a whole number from 1"),
        ("config.json", set_to("model", "encoder", "intermediate_size", value=-1), "whole number"),
        ("config.json", set_to("model", "labels", value=[0, 1]), "labels must be names"),
        ("exits.json", set_to("rule", value=None), "not a valid calibration"),
        ("exits.json", lambda file: file.write_text("[" * 99_999), "not readable as JSON"),
        ("config.json", Path.unlink, "missing"),
        ("config.json", misspelt, "unknown keys \\['rull'\\]; known are"),
        ("exits.json", misspelt, "unknown keys \\['rull'\\]; known are"),
        ("exits.json", misspelt_rule, "unknown keys \\['exponent'\\] of the rule"),
        ("config.json", foreign, "not an offramp checkpoint"),
        ("model.safetensors", cut, "safetensors"),
        ("model.safetensors", Path.unlink, "missing"),
        ("tokenizer.json", cut, "tokenizer"),
        ("exits.json", foreign, "calibration"),
        ("config.json", set_to("model", "encoder", "layers", value=True), "a whole number from 1"),
        ("config.json", set_to("model", "encoder", "token_types", value="x"), "number from 0 on"),
        ("config.json", set_to("model", "encoder", "position_offset", value=-5), "from 0 on"),
        ("config.json", set_to("model", "encoder", "layer_norm_eps", value=None), "layer_norm_eps"),
        ("config.json", set_to("model", "encoder", "hidden_size", value=10**30), "whole number"),
        ("config.json", set_to("model", "encoder", "hidden_size", value=12 * 10**8), "no possible"),
        ("config.json", set_to("model", "pairs", value="x"), "pairs must be true, false or null"),
        ("exits.json", set_to("table", value=[POINT | {"accuracy_drop_bound": None}]), "a number"),
        ("exits.json", set_to("temperatures", value=[float("inf")] * 6), "positive and finite"),
    ],
)
def test_damage_is_named(
    tmp_path: Path, name: str, damage: Callable[[Path], None], cause: str
) -> None:
    shutil.copytree(SHIPPED, tmp_path / "copy")
    damage(tmp_path / "copy" / name)
    with pytest.raises(CheckpointError, match=cause) as raised:
        load_checkpoint(tmp_path / "copy")
    assert name in str(raised.value)


def test_a_calibration_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tiny_checkpoint(tmp_path / "tiny")
    calibration = load_checkpoint(directory).calibration
    before = (directory / "exits.json").read_bytes()

    def full(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"{")
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        save_calibration(replace(calibration, default_threshold=0.5), directory)
    assert (directory / "exits.json").read_bytes() == before
    assert not list(directory.glob("*.part"))


@pytest.mark.parametrize(
    ("ids", "kind", "told"),
    [(999_999, 0, "ids up to 999999"), (0, 3, "token types up to 3, .* embeddings of 2")],
)
def test_what_a_tokenizer_puts_around_a_text_is_looked_at_too(
    ids: int, kind: int, told: str, tmp_path: Path
) -> None:
    tokenizer = tiny_checkpoint(tmp_path / "tiny") / "tokenizer.json"
    definition = json.loads(tokenizer.read_text())
    around = definition["post_processor"]
    for piece in around["single"]:
        next(iter(piece.values()))["type_id"] = kind
    for special in around["special_tokens"].values():
        special["ids"] = [ids or special["ids"][0]]
    tokenizer.write_text(json.dumps(definition))
    with pytest.raises(CheckpointError, match=told) as raised:
        load_checkpoint(tmp_path / "tiny")
    assert "tokenizer.json" in str(raised.value)


def test_weights_of_a_type_that_is_none_of_ours_are_named(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "tiny") / "model.safetensors"
    weights = load_file(path)
    name = min(weights)
    for dtype in (torch.float8_e4m3fn, torch.complex64, torch.int8):
        save_file(weights | {name: weights[name].to(dtype)}, path)
        with pytest.raises(CheckpointError, match=f"{name} is of {dtype}"):
            load_checkpoint(tmp_path / "tiny")


def test_words_without_an_embedding_are_named(tmp_path: Path) -> None:
    tokenizer = tiny_checkpoint(tmp_path / "tiny") / "tokenizer.json"
    definition = json.loads(tokenizer.read_text())
    vocabulary = definition["model"]["vocab"]
    vocabulary["unheard"] = len(vocabulary)
    tokenizer.write_text(json.dumps(definition))
    with pytest.raises(CheckpointError, match=r"ids up to .* embeddings of") as raised:
        load_checkpoint(tmp_path / "tiny")
    assert "tokenizer.json" in str(raised.value)


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Lets something happen while a checkpoint is being read, after the calibration."""
    read = checkpoints._read_calibration  # pyright: ignore[reportPrivateUsage]

    def then(happens: Callable[[], object]) -> None:
        def reading(*given: Any) -> Calibration:  # noqa: ANN401
            found = read(*given)
            happens()
            return found

        monkeypatch.setattr(checkpoints, "_read_calibration", reading)

    return then


def test_a_link_that_moves_while_it_is_read_changes_nothing(
    tmp_path: Path, between: Callable[[Callable[[], object]], None]
) -> None:
    one = tiny_checkpoint(tmp_path / "one")
    other = tiny_checkpoint(tmp_path / "other", labels=("bad", "good"))
    link, new = tmp_path / "current", tmp_path / "new"
    link.symlink_to(one)
    new.symlink_to(other)
    between(lambda: new.exists() and new.rename(link))
    loaded = load_checkpoint(link)
    assert (loaded.config.labels, loaded.digest) == (("no", "yes"), digest_of(one))
    assert load_checkpoint(link).digest == digest_of(other)


def test_the_name_is_that_of_the_path_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, link = tiny_checkpoint(tmp_path / "v1"), tmp_path / "current"
    link.symlink_to(directory)
    monkeypatch.chdir(directory)
    assert load_checkpoint(link).name == "current"
    assert load_checkpoint(Path()).name == "v1"
    assert [name_of(path) for path in (link / ".", Path("../current"))] == ["current"] * 2


def test_files_that_change_while_they_are_read_are_refused(
    tmp_path: Path, between: Callable[[Callable[[], object]], None]
) -> None:
    directory = tiny_checkpoint(tmp_path / "one")
    weights = directory / "model.safetensors"
    between(lambda: weights.write_bytes(weights.read_bytes()))
    with pytest.raises(CheckpointError, match="changed while it was read"):
        load_checkpoint(directory)


def test_what_was_loaded_is_not_read_from_the_file_again(tmp_path: Path) -> None:
    directory = tiny_checkpoint(tmp_path / "one")
    save_checkpoint(load_checkpoint(directory), directory, torch.float32)
    loaded = load_checkpoint(directory)
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    with (directory / "model.safetensors").open("r+b") as file:
        size = (directory / "model.safetensors").stat().st_size
        file.seek(size // 2)
        file.write(bytes(size - size // 2))
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_who_may_read_a_checkpoint_is_for_the_umask_to_say(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint(tmp_path / "tiny"))
    before = os.umask(0o027)
    try:
        save_checkpoint(checkpoint, tmp_path / "saved")
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "saved").iterdir()}
    assert modes == {0o640}
