"""The optimizer, its schedule, and the gradients that exits send back through shared layers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import get_ema_multi_avg_fn

from offramp.model.exits import MultiExitModel
from offramp.model.packing import PackedTokens
from offramp.training.recipe import TrainingConfig

Tensors = tuple[Tensor, ...] | list[Tensor]
AverageStep = Callable[[Tensors, Tensors, Tensor | int], None]


def optimizer_of(model: MultiExitModel, config: TrainingConfig) -> AdamW:
    """AdamW with rates of their own for heads, mixes and queries, which start from nothing."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    heads: list[nn.Parameter] = []
    mixes: list[nn.Parameter] = []
    queries: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if name.endswith(".mix"):
            mixes.append(parameter)
        elif name == "queries":
            queries.append(parameter)
        elif name.startswith("heads."):
            heads.append(parameter)
        elif parameter.ndim > 1:
            decayed.append(parameter)
        else:
            plain.append(parameter)
    return AdamW(
        [
            {"params": decayed, "lr": config.learning_rate, "weight_decay": config.weight_decay},
            {"params": plain, "lr": config.learning_rate, "weight_decay": 0.0},
            {"params": heads, "lr": config.head_learning_rate, "weight_decay": 0.0},
            {"params": mixes, "lr": config.mix_learning_rate, "weight_decay": 0.0},
            {"params": queries, "lr": config.query_learning_rate, "weight_decay": 0.0},
        ],
        fused=True,
    )


def schedule_of(optimizer: AdamW, steps: int, config: TrainingConfig) -> LambdaLR:
    """Linear warm-up, then linear decay to nothing at the last step, or constant rates."""
    warmup = max(1, int(steps * config.warmup_share))

    def share(step: int) -> float:
        left = max(0.0, (steps - step) / max(1, steps - warmup)) if config.decay else 1.0
        return min((step + 1) / warmup, left)

    return LambdaLR(optimizer, share)


def averaging_step(averaging: float) -> AverageStep:
    """The moving average's step of `AveragedModel`, on averages, weights and updates so far.

    It keeps the share (1 + n) / (10 + n) after n updates, and never more than `averaging`: a
    run of few steps is not left with the weights it began with.
    """

    def step(averages: Tensors, weights: Tensors, updates: Tensor | int) -> None:
        done = int(updates)
        kept = min(averaging, (1 + done) / (10 + done))
        get_ema_multi_avg_fn(kept)(averages, weights, updates)  # type: ignore[no-untyped-call]

    return step


def staged_logits(
    model: MultiExitModel, packed: PackedTokens, config: TrainingConfig
) -> list[Tensor]:
    """Logits of every exit, `[rows, labels]` each; exits share layers' gradients as configured.

    With `equilibrium` a layer below k exits receives the mean of their gradients and not the sum:
    the exit with k - 1 after it sends 1 / k of its own, and what comes from beyond is scaled by
    (k - 1) / k (Li et al., "Improved Techniques for Training Adaptive Deep Networks", ICCV 2019;
    Liu et al., ElasticBERT, NAACL 2022). With a `separation` s what comes from beyond an exit is
    scaled by 1 - s, so that layers serve the next exit first; at 1 they serve it alone (Rotem et
    al., SWEET, ACL 2023).
    """
    if not (config.equilibrium or config.separation):
        return model.forward(packed)
    logits: list[Tensor] = []
    hidden, pooled = model.encoder.embed(packed), None
    for stage in range(model.config.exits):
        exits = model.config.exits - stage
        own, beyond = 1.0, 1 - config.separation
        if config.equilibrium:
            own, beyond = 1 / exits, beyond * (exits - 1) / exits
        output = model.run_stage(stage, hidden, pooled, packed.layout)
        logits.append(_scaled(output.logits, own))
        hidden = _scaled(output.hidden, beyond)
        pooled = _scaled(output.pooled, beyond)
    return logits


def _scaled(values: Tensor, share: float) -> Tensor:
    """The same values, whose gradient is scaled on its way back."""
    alias = values.view_as(values)
    if alias.requires_grad:
        alias.register_hook(_scaling(share))  # type: ignore[no-untyped-call]
    return alias


def _scaling(share: float) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient * share


def computes_in_bfloat16(device: torch.device, config: TrainingConfig) -> bool:
    """Whether products are: where the configuration says so, or says nothing on a GPU."""
    return device.type == "cuda" if config.bfloat16 is None else config.bfloat16


def autocast(device: torch.device, config: TrainingConfig) -> torch.autocast:
    """A context in which they are, or nothing changes."""
    enabled = computes_in_bfloat16(device, config)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
