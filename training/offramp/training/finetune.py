"""Fine-tuning: one pretrained encoder and all its exits, trained together.

Recipes: `joint` trains every exit from the first step (Schwartz et al. 2020); `mixed` first
trains the last exit alone and then all of them (Kubaty et al. 2025), which spares the full
depth from the early exits' conflicting gradients.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from offramp.model.calibration import Calibration
from offramp.model.checkpoint import Checkpoint
from offramp.model.config import ModelConfig, Pooling
from offramp.model.exits import MultiExitModel
from offramp.model.pretrained import PretrainedEncoder
from offramp.model.tokenizer import TextTokenizer
from offramp.training.batches import Row, collate, shuffled_batches, tokenize
from offramp.training.data import Dataset, Example
from offramp.training.evaluate import exit_accuracies, exit_logits
from offramp.training.losses import exits_loss


class Recipe(StrEnum):
    """Which exits are trained when."""

    JOINT = "joint"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Hyper-parameters; learning rates are peaks of a linear warm-up and decay.

    What is evaluated and kept is the moving average of the weights over the steps, which each step
    keeps by the share `averaging` (Izmailov et al., UAI 2018, on why averages generalise).
    `distillation` is the share (0 to 1) of self-distillation in the early exits' losses, and
    `last_exit_epochs` how many of the epochs `mixed` spends on the last exit alone.
    """

    recipe: Recipe = Recipe.MIXED
    epochs: int = 4
    last_exit_epochs: int = 1
    batch_rows: int = 64
    learning_rate: float = 5e-5
    head_learning_rate: float = 1e-3
    mix_learning_rate: float = 1e-2
    weight_decay: float = 0.01
    warmup_share: float = 0.06
    dropout: float = 0.1
    distillation: float = 0.5
    gradient_norm: float = 1.0
    averaging: float = 0.999
    bfloat16: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training run is; `exit_accuracies` on dev only at the end of an epoch."""

    epoch: int
    step: int
    steps: int
    loss: float
    seconds: float
    exit_accuracies: tuple[float, ...] | None = None


def finetune(
    pretrained: PretrainedEncoder,
    model_config: ModelConfig,
    train: Dataset,
    dev: Dataset,
    config: TrainingConfig,
    report: Callable[[Progress], None],
    *,
    unlabelled: Sequence[Example] = (),
    teacher: MultiExitModel | None = None,
) -> Checkpoint:
    """Train a multi-exit model and return its best epoch, uncalibrated.

    Unlabelled examples, and with a teacher all of them, are taught by distillation: see
    `exits_loss`. The teacher reads the same tokens and knows the same labels.

    Best is the epoch with the highest mean dev accuracy over the exits, the last one counted as
    much as all the others together. The same seed gives the same model on the same machine.
    """
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = TextTokenizer(pretrained.tokenizer, model_config.max_tokens)
    model = build_model(pretrained, model_config, config.dropout).to(device)
    rows = tokenize((*train.examples, *unlabelled), tokenizer)
    dev_rows = tokenize(dev.examples, tokenizer)
    taught = None if teacher is None else exit_logits(teacher.to(device), rows, device)[-1]

    average_step = get_ema_multi_avg_fn(config.averaging)  # type: ignore[no-untyped-call]
    average = AveragedModel(model, multi_avg_fn=average_step)
    averaged = cast("MultiExitModel", average.module)
    best_score, best_weights = -1.0, averaged.state_dict()
    for progress in _epochs(model, average, rows, taught, dev_rows, config, device):
        report(progress)
        if progress.exit_accuracies is None:
            continue
        *early, last = progress.exit_accuracies
        score = last + sum(early) / max(len(early), 1)
        if score > best_score:
            best_score = score
            best_weights = {name: value.clone() for name, value in averaged.state_dict().items()}
    model.load_state_dict(best_weights)
    model.eval().requires_grad_(requires_grad=False)
    calibration = Calibration.none(model_config.exits)
    return Checkpoint("trained", model_config, model, tokenizer, calibration)


def build_model(
    pretrained: PretrainedEncoder, config: ModelConfig, dropout: float
) -> MultiExitModel:
    """A multi-exit model with the pretrained encoder and fresh heads."""
    model = MultiExitModel(config, dropout)
    model.encoder.load_state_dict(pretrained.weights)
    if config.pooling is Pooling.CLS and pretrained.pooler is not None and model.pooler is not None:
        model.pooler.load_state_dict(pretrained.pooler)
    return model


def _epochs(
    model: MultiExitModel,
    average: AveragedModel,
    rows: Sequence[Row],
    taught: Tensor | None,
    dev_rows: Sequence[Row],
    config: TrainingConfig,
    device: torch.device,
) -> Iterator[Progress]:
    rng = random.Random(config.seed)
    steps = config.epochs * -(-len(rows) // config.batch_rows)
    optimizer = _optimizer(model, config)
    schedule = LambdaLR(optimizer, _warmup_decay(steps, config.warmup_share))
    started = time.monotonic()
    step, loss_value = 0, 0.0
    for epoch in range(config.epochs):
        last_only = config.recipe is Recipe.MIXED and epoch < config.last_exit_epochs
        model.train()
        for batch in shuffled_batches(rows, config.batch_rows, rng):
            packed, labels = collate(batch, device)
            with _autocast(device, config):
                logits = model(packed)
            trained = logits[-1:] if last_only else logits
            teaching = None if taught is None else taught[[row.index for row in batch]].to(device)
            loss = exits_loss(trained, labels, config.distillation, teaching)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), config.gradient_norm)
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
            optimizer.zero_grad()
            step += 1
            loss_value = 0.98 * loss_value + 0.02 * loss.item() if step > 1 else loss.item()
            if step % 50 == 0:
                yield Progress(epoch, step, steps, loss_value, time.monotonic() - started)
        average.eval()
        logits_by_exit = exit_logits(cast("MultiExitModel", average.module), dev_rows, device)
        accuracies = exit_accuracies(logits_by_exit, torch.tensor([row.label for row in dev_rows]))
        seconds = time.monotonic() - started
        yield Progress(epoch, step, steps, loss_value, seconds, tuple(accuracies))


def _autocast(device: torch.device, config: TrainingConfig) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16) if config.bfloat16 else nullcontext()


def _optimizer(model: MultiExitModel, config: TrainingConfig) -> AdamW:
    """AdamW with rates of their own for heads and layer mixes, which start from nothing."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    heads: list[nn.Parameter] = []
    mixes: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if name.endswith(".mix"):
            mixes.append(parameter)
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
        ],
        fused=True,
    )


def _warmup_decay(steps: int, warmup_share: float) -> Callable[[int], float]:
    warmup = max(1, int(steps * warmup_share))
    return lambda step: min((step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - warmup)))
