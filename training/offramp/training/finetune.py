"""Fine-tuning: one pretrained encoder and all its exits, trained as a recipe says."""

from collections.abc import Callable, Sequence

import torch

from offramp.model.calibration import Calibration
from offramp.model.checkpoint import Checkpoint
from offramp.model.config import ModelConfig, Pooling
from offramp.model.exits import MultiExitModel
from offramp.model.pretrained import PretrainedEncoder
from offramp.model.tokenizer import TextTokenizer
from offramp.training.batches import tokenize
from offramp.training.data import Dataset, Example
from offramp.training.divergence import refuse_beyond_half
from offramp.training.evaluate import best_device, exit_logits
from offramp.training.optimisation import autocast
from offramp.training.recipe import TrainingConfig
from offramp.training.run import Progress, Saving, TrainingRun
from offramp.training.state import InterruptedRunError, fingerprint


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
    teaching: Callable[[int, int], None] = lambda _done, _all: None,
    saving: Saving | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Checkpoint:
    """Train a multi-exit model and return its best epoch, uncalibrated.

    Unlabelled examples, and with a teacher all of them, are taught by distillation: see
    `exits_loss`. The teacher reads the same tokens and knows the same labels; it reads all of them
    first, and `teaching` hears how many of how many.

    Best is, of the epochs that train all exits, that with the highest mean dev accuracy over the
    exits, the last one counted as much as all the others together. The same seed gives the same
    model on the same machine, also when the run was stopped and goes on from what `saving` finds.
    Raises ResumeError if that is of another run, InterruptedRunError once `interrupted` says so,
    and DivergedRunError once the loss or the gradients are not finite.
    """
    torch.manual_seed(config.seed)
    device = best_device()
    tokenizer = TextTokenizer(pretrained.tokenizer, model_config.max_tokens)
    model = build_model(pretrained, model_config, config.dropout).to(device)
    rows = tokenize((*train.examples, *unlabelled), tokenizer)
    dev_rows = tokenize(dev.examples, tokenizer)

    def read(done: int, of: int) -> None:
        teaching(done, of)
        if interrupted():
            raise InterruptedRunError

    taught = None
    if teacher is not None:
        with autocast(device, config):
            logits = exit_logits(teacher.to(device), rows, device, read=read)
        taught = logits[-1].clone()  # or those of all exits would stay
        del logits
    identity = fingerprint(config, rows, dev_rows, model, teacher)
    run = TrainingRun(model, config, rows, dev_rows, taught, device, saving, interrupted, identity)
    for progress in run.epochs():
        report(progress)
    refuse_beyond_half(run.best)
    model.load_state_dict(run.best)
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
