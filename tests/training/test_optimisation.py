"""What exits send back through shared layers, and the recipes' turns."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_checkpoint
from torch.optim.swa_utils import AveragedModel

from offramp.model import encoder
from offramp.model.checkpoint import load_checkpoint
from offramp.model.packing import PackedTokens
from offramp.model.tokenizer import Tokens
from offramp.training.optimisation import averaging_step, computes_in_bfloat16, staged_logits
from offramp.training.recipe import PAPER, RATES, Recipe, TrainingConfig
from offramp.training.run import Saving

SHARES = {
    "equilibrium": (TrainingConfig(equilibrium=True), (1 / 3, 1 / 3, 1 / 3)),
    "separation": (TrainingConfig(separation=0.8), (1.0, 0.2, 0.04)),
    "whole separation": (TrainingConfig(separation=1.0), (1.0, 0.0, 0.0)),
    "both": (TrainingConfig(equilibrium=True, separation=0.5), (1 / 3, 1 / 6, 1 / 12)),
}


@pytest.mark.parametrize(("config", "shares"), SHARES.values(), ids=SHARES)
def test_each_exit_sends_the_first_layer_its_share(
    config: TrainingConfig, shares: tuple[float, ...], tmp_path: Path
) -> None:
    model = load_checkpoint(tiny_checkpoint(tmp_path / "tiny")).model.requires_grad_()
    row = Tokens.of((4, 5, 6))
    packed = PackedTokens.of([row, row], torch.device("cpu"))
    first = model.encoder.layers[0].get_parameter("qkv.weight")

    def gradients(config: TrainingConfig) -> list[torch.Tensor]:
        found: list[torch.Tensor] = []
        for index in range(3):
            loss = staged_logits(model, packed, config)[index].square().sum()
            (gradient,) = torch.autograd.grad(loss, first)
            found.append(gradient)
        return found

    whole, sent = gradients(TrainingConfig()), gradients(config)
    for plain, found, share in zip(whole, sent, shares, strict=True):
        assert plain.norm() > 0
        torch.testing.assert_close(found, plain * share)
    with torch.no_grad():
        together = zip(model(packed), staged_logits(model, packed, config), strict=True)
        assert all(torch.equal(one, other) for one, other in together)


def test_attention_in_training_is_that_of_the_fused_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_checkpoint(tiny_checkpoint(tmp_path / "tiny")).model.requires_grad_()
    tokens = (4, 5, 6, 7, 8)
    rows = [Tokens.of(tokens[:length]) for length in (2, 5, 5, 3)]
    packed = PackedTokens.of(rows, torch.device("cpu"))
    parameters = [*model.encoder.parameters()]

    def run() -> tuple[torch.Tensor, ...]:
        logits = torch.stack(model(packed))
        return logits, *torch.autograd.grad(logits.square().sum(), parameters)

    of_products = run()
    with monkeypatch.context() as patched:
        patched.setattr(encoder, "attention_in_products", encoder.fused_attention)
        fused = run()
    for ours, theirs in zip(of_products, fused, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("averaging", "expected"),
    [(0.0, [1.0, 2.0, 3.0, 4.0]), (0.2, [1.0, 20 / 11, 2.764, 3.753])],
    ids=["none", "warm-up"],
)
def test_the_average_warms_up(averaging: float, expected: list[float]) -> None:
    """The shares kept: 2 / 11 after one update, then 0.2, which is less than 3 / 12 and 4 / 13."""
    weights = torch.nn.Linear(1, 1, bias=False)
    average = AveragedModel(weights, multi_avg_fn=averaging_step(averaging))
    found: list[float] = []
    for value in (1.0, 2.0, 3.0, 4.0):
        torch.nn.init.constant_(weights.weight, value)
        average.update_parameters(weights)
        found.append(next(average.parameters()).item())
    assert found == pytest.approx(expected, abs=1e-3)


def test_turns() -> None:
    turns = {
        recipe: [TrainingConfig(recipe).last_exit_alone(step // 3, step) for step in range(6)]
        for recipe in Recipe
    }
    assert turns[Recipe.JOINT] == [False] * 6
    assert turns[Recipe.MIXED] == [True] * 3 + [False] * 3
    assert turns[Recipe.ALTERNATING] == [True, False] * 3
    assert PAPER.recipe is Recipe.JOINT


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="epochs"):
        TrainingConfig(epochs=0)
    with pytest.raises(ValueError, match="distillation"):
        TrainingConfig(distillation=2)
    with pytest.raises(ValueError, match="fewer than all 1 epochs"):
        TrainingConfig(epochs=1)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *((name, (math.nan, math.inf, -1e-5)) for name in RATES),
        ("gradient_norm", (math.nan, math.inf, 0.0, -1.0)),
        ("dropout", (math.nan, -0.1, 1.0)),
        ("patience", (-1,)),
        ("seed", (2**63, -(2**63) - 1)),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(name: str, values: tuple[float, ...]) -> None:
    for value in values:
        changed: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=f"^{name} must .*, not {value}"):
            TrainingConfig(**changed)


@pytest.mark.parametrize("seconds", [-1.0, math.nan])
def test_a_state_is_not_kept_before_the_run_begins(seconds: float) -> None:
    with pytest.raises(ValueError, match="save_seconds must be 0 or more"):
        Saving(Path("training.state"), seconds)


@pytest.mark.parametrize(
    ("told", "device", "computed"),
    [(None, "cpu", False), (None, "cuda", True), (False, "cuda", False), (True, "cpu", True)],
)
def test_bfloat16_is_the_default_on_a_gpu_alone(
    told: bool | None,  # noqa: FBT001
    device: str,
    computed: bool,  # noqa: FBT001
) -> None:
    config = TrainingConfig(bfloat16=told)
    assert computes_in_bfloat16(torch.device(device), config) is computed
