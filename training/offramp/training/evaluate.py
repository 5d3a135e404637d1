"""What a checkpoint gives on labelled data: accuracy per exit, and a sweep over thresholds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from offramp.model.calibration import TradeOff, read
from offramp.model.checkpoint import Checkpoint
from offramp.model.exits import MultiExitModel
from offramp.training.batches import Row, collate, sorted_batches, tokenize
from offramp.training.data import Dataset

THRESHOLDS = (*(round(0.5 + 0.01 * step, 2) for step in range(50)), 0.995, 0.999, 1.0)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Accuracies per exit, the sweep, and the point at the default threshold."""

    examples: int
    accuracy_full: float
    exit_accuracies: tuple[float, ...]
    default: TradeOff
    points: tuple[TradeOff, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


@torch.inference_mode()
def exit_logits(
    model: MultiExitModel, rows: Sequence[Row], device: torch.device, batch_rows: int = 32
) -> Tensor:
    """Logits of every exit for every row, in dataset order: float32 `[exits, rows, labels]`."""
    config = model.config
    result = torch.empty(config.exits, len(rows), len(config.labels))
    for batch in sorted_batches(rows, batch_rows):
        packed, _ = collate(batch, device)
        places = torch.tensor([row.index for row in batch])
        result[:, places] = torch.stack(model(packed)).float().cpu()
    return result


def exit_accuracies(logits: Tensor, labels: Tensor) -> list[float]:
    """Share of right answers at each exit, of logits `[exits, rows, labels]`."""
    accuracies: list[float] = (logits.argmax(-1) == labels).double().mean(-1).tolist()
    return accuracies


def first_confident_exit(confidences: Tensor, threshold: float) -> Tensor:
    """Exit at which each row leaves, int64 `[rows]`, of confidences `[exits, rows]`.

    The first whose confidence reaches the threshold, else the last: the rule of the scheduler.
    """
    confident = confidences >= threshold
    confident[-1] = True
    return confident.int().argmax(0)


def trade_off(
    confidences: Tensor,
    predictions: Tensor,
    labels: Tensor,
    exit_layers: Sequence[int],
    threshold: float,
) -> TradeOff:
    """What `threshold` gives on rows read as `confidences` and `predictions`, `[exits, rows]`."""
    leaving = first_confident_exit(confidences, threshold)
    answers = predictions.gather(0, leaving.unsqueeze(0)).squeeze(0)
    full = predictions[-1]
    accuracy = (answers == labels).double().mean().item()
    mean_layers = torch.tensor(exit_layers, dtype=torch.float64)[leaving].mean().item()
    return TradeOff(
        threshold=threshold,
        accuracy=accuracy,
        accuracy_drop=(full == labels).double().mean().item() - accuracy,
        agreement=(answers == full).double().mean().item(),
        mean_layers=mean_layers,
        layer_speedup=exit_layers[-1] / mean_layers,
    )


def evaluate(checkpoint: Checkpoint, dataset: Dataset) -> Evaluation:
    """Run the whole dataset at full depth once and sweep the thresholds over its readings."""
    rows = tokenize(dataset.examples, checkpoint.tokenizer)
    labels = torch.tensor([row.label for row in rows])
    device = next(checkpoint.model.parameters()).device
    logits = exit_logits(checkpoint.model, rows, device)
    temperatures = checkpoint.calibration.temperatures
    readings = [read(at, scale) for at, scale in zip(logits, temperatures, strict=True)]
    confidences = torch.stack([reading.confidences for reading in readings])
    predictions = torch.stack([reading.labels for reading in readings])

    def point(threshold: float) -> TradeOff:
        layers = checkpoint.config.exit_layers
        return trade_off(confidences, predictions, labels, layers, threshold)

    accuracies = exit_accuracies(logits, labels)
    return Evaluation(
        examples=len(rows),
        accuracy_full=accuracies[-1],
        exit_accuracies=tuple(accuracies),
        default=point(checkpoint.calibration.default_threshold),
        points=tuple(point(threshold) for threshold in THRESHOLDS),
    )
