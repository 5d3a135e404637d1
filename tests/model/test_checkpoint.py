"""A damaged or foreign checkpoint gets an error that names file and cause."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from service import SHIPPED

from offramp.model.checkpoint import load_checkpoint
from offramp.model.errors import CheckpointError


def test_the_shipped_checkpoint_is_small_and_calibrated() -> None:
    checkpoint = load_checkpoint(SHIPPED)
    assert checkpoint.config.labels == ("negative", "positive")
    assert checkpoint.calibration.table
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 48_000_000


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def foreign(path: Path) -> None:
    path.write_text(json.dumps({"model_type": "bert"}))


def misspelt(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "rull": 1}))


def misspelt_rule(path: Path) -> None:
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "rule": {**values["rule"], "exponent": []}}))


@pytest.mark.parametrize(
    ("name", "damage", "cause"),
    [
        ("config.json", Path.unlink, "missing"),
        ("config.json", misspelt, "unknown keys \\['rull'\\]; known are"),
        ("exits.json", misspelt, "unknown keys \\['rull'\\]; known are"),
        ("exits.json", misspelt_rule, "unknown keys \\['exponent'\\] of the rule"),
        ("config.json", foreign, "not an offramp checkpoint"),
        ("model.safetensors", cut, "safetensors"),
        ("model.safetensors", Path.unlink, "missing"),
        ("tokenizer.json", cut, "tokenizer"),
        ("exits.json", foreign, "calibration"),
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
