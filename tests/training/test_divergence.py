"""A run that leaves what numbers can hold ends at once and leaves no checkpoint."""

import json
from pathlib import Path

import pytest
import torch
from tiny import tiny_checkpoint

from offramp.cli.train import main as train
from offramp.training.divergence import DivergedRunError, finite_loss, refuse_beyond_half


def trained(directory: Path, *options: str) -> int:
    data = directory / "data.jsonl"
    records = [{"text": "easy film", "label": "yes"}, {"text": "hard film", "label": "no"}] * 40
    data.write_text("".join(json.dumps(record) + "\n" for record in records))
    encoder = tiny_checkpoint(directory / "encoder")
    return train(
        [
            *("--data", str(data), "--dev", str(data), "--encoder", str(encoder)),
            *("--output", str(directory / "out"), "--recipe", "joint", *options),
        ]
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--batch-rows", "8"), "loss is nan at step 2; lower --learning-rate"),
        (("--batch-rows", "80", "--epochs", "1"), "beyond what a checkpoint stores; lower"),
    ],
    ids=["while it trains", "with its last step"],
)
def test_a_diverged_run_is_no_checkpoint(
    options: tuple[str, ...],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert trained(tmp_path, "--learning-rate", "1e9", "--averaging", "0", *options) == 1
    assert sentence in capsys.readouterr().err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names <= {"training.state", "training.jsonl"}
    assert all("NaN" not in path.read_text() for path in (tmp_path / "out").glob("*.jsonl"))


def test_loss_and_gradients_are_told_apart() -> None:
    one, nan, infinite = torch.tensor(1.5), torch.tensor(torch.nan), torch.tensor(torch.inf)
    assert finite_loss(one, one, 3) == 1.5
    with pytest.raises(DivergedRunError, match="loss is nan at step 3; lower --learning-rate"):
        finite_loss(nan, infinite, 3)
    with pytest.raises(DivergedRunError, match="norm of the gradients is inf at step 4"):
        finite_loss(one, infinite, 4)


def test_weights_must_be_what_half_precision_holds() -> None:
    refuse_beyond_half({"small": torch.tensor([65504.0])})
    with pytest.raises(DivergedRunError, match="weight large holds"):
        refuse_beyond_half({"small": torch.ones(1), "large": torch.tensor([1.0, 7e4])})
