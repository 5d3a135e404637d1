"""Calibration: one temperature per exit, then the trade-off table, on data not trained on.

Temperatures and table come from the same file but not from the same examples: the file is cut
into folds, and every fold is read with temperatures fitted on the others (cross-fitting). The
temperatures kept are fitted on all of it.
"""

from dataclasses import replace

import torch
from torch import Tensor

from offramp.model.calibration import Calibration, read
from offramp.model.checkpoint import Checkpoint
from offramp.training.batches import tokenize
from offramp.training.data import Dataset
from offramp.training.evaluate import THRESHOLDS, exit_logits, trade_off

FOLDS = 5
NEWTON_STEPS = 50
HIGHEST_TEMPERATURE = 20.0
"""Bounds the fit, with its inverse, where every answer is right and no minimum exists."""


def calibrate(
    checkpoint: Checkpoint, dataset: Dataset, accuracy_drop: float, seed: int = 0
) -> Calibration:
    """Fit temperatures, build the table and choose the default threshold.

    The default is the lowest threshold of the table from which on none loses more than
    `accuracy_drop` (a share: 0.005 is half a point) against full depth.
    """
    rows = tokenize(dataset.examples, checkpoint.tokenizer)
    labels = torch.tensor([row.label for row in rows])
    device = next(checkpoint.model.parameters()).device
    logits = exit_logits(checkpoint.model, rows, device)
    confidences, predictions = _cross_fitted(logits, labels, seed)
    layers = checkpoint.config.exit_layers
    table = tuple(
        trade_off(confidences, predictions, labels, layers, threshold) for threshold in THRESHOLDS
    )
    calibration = Calibration(tuple(fit_temperature(at, labels) for at in logits), 1.0, table)
    return replace(calibration, default_threshold=calibration.threshold_within(accuracy_drop))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that minimises the negative log-likelihood of `[rows, labels]` logits.

    The likelihood is convex in the inverse temperature, so Newton's method finds the minimum.
    """
    logits = logits.double()
    labelled = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    inverse = torch.ones((), dtype=torch.float64)
    for _ in range(NEWTON_STEPS):
        probabilities = (logits * inverse).softmax(-1)
        mean = (probabilities * logits).sum(-1)
        variance = (probabilities * logits.square()).sum(-1) - mean.square()
        step = (mean - labelled).mean() / variance.mean().clamp(min=1e-12)
        inverse = (inverse - step).clamp(1 / HIGHEST_TEMPERATURE, HIGHEST_TEMPERATURE)
    return (1 / inverse).item()


def _cross_fitted(logits: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    rows = len(labels)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    confidences = torch.empty(logits.shape[:2], dtype=torch.float64)
    predictions = torch.empty(logits.shape[:2], dtype=torch.int64)
    for fold in range(min(FOLDS, rows)):
        held_out = torch.zeros(rows, dtype=torch.bool)
        held_out[order[fold::FOLDS]] = True
        for index, at_exit in enumerate(logits):
            temperature = fit_temperature(at_exit[~held_out], labels[~held_out])
            readings = read(at_exit[held_out], temperature)
            confidences[index, held_out] = readings.confidences
            predictions[index, held_out] = readings.labels
    return confidences, predictions
