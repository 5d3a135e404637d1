"""What all exits cost in training: steps of two models in turn, so that noise meets both."""

import random
import statistics
import time

import torch
from trained import Budget, Spec

from offramp.model.config import ModelConfig, Pooling
from offramp.model.exits import MultiExitModel
from offramp.model.pretrained import PretrainedEncoder
from offramp.model.tokenizer import TextTokenizer
from offramp.training.batches import Row, collate, shuffled_batches, tokenize
from offramp.training.data import Dataset
from offramp.training.finetune import build_model
from offramp.training.losses import exits_loss
from offramp.training.optimisation import autocast, optimizer_of

ROUNDS = 12


def step_ratio(
    pretrained: PretrainedEncoder, train: Dataset, plain: Spec, exits: Spec, budget: Budget
) -> dict[str, float]:
    """Median time of a training step with all exits over one without, A B A B, and its spread."""
    device = torch.device("cpu")
    tokenizer = TextTokenizer(pretrained.tokenizer, budget.max_tokens)
    rows = tokenize(train.examples[:2000], tokenizer)
    batches = shuffled_batches(rows, plain.training.batch_rows, random.Random(0))
    models: list[tuple[MultiExitModel, torch.optim.Optimizer]] = []
    for spec in (plain, exits):
        shape = ModelConfig(
            pretrained.config, train.labels, spec.exit_layers, Pooling.MEAN, budget.max_tokens
        )
        model = build_model(pretrained, shape, spec.training.dropout).train()
        models.append((model, optimizer_of(model, spec.training)))

    def seconds(model: MultiExitModel, optimizer: torch.optim.Optimizer, batch: list[Row]) -> float:
        started = time.thread_time() if torch.get_num_threads() == 1 else time.monotonic()
        packed, labels = collate(batch, device)
        with autocast(device, plain.training):
            logits = model(packed)
        torch.autograd.backward(exits_loss(logits, labels, 0.0))
        optimizer.step()
        optimizer.zero_grad()
        ended = time.thread_time() if torch.get_num_threads() == 1 else time.monotonic()
        return ended - started

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # processor time of this thread: what others do hardly counts
    ratios: list[float] = []
    for batch in (batches * ROUNDS)[: ROUNDS + 1]:
        times = [seconds(*model, batch) for model in models]
        ratios.append(times[1] / times[0])
    torch.set_num_threads(threads)
    low, _, high = statistics.quantiles(ratios[1:], n=4)
    return {"median": statistics.median(ratios[1:]), "quartile_1": low, "quartile_3": high}
