"""What a checkpoint gives on labelled data: every rule over a sweep of thresholds, and why."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from offramp.model.checkpoint import Checkpoint
from offramp.model.exits import MultiExitModel
from offramp.model.rules import ExitRule, RuleKind, score_exits
from offramp.training.batches import Row, collate, sorted_batches, tokenize
from offramp.training.bootstrap import Interval, draws_of, intervals
from offramp.training.clock import EarlyExits, Timing, time_thresholds
from offramp.training.data import Dataset
from offramp.training.sweep import Sweep, thresholds_of
from offramp.training.temperature import Reliability

TIMED_AT = tuple(twentieth / 20 for twentieth in range(1, 21))
"""Shares of full depth's layers; timed is the threshold of the checkpoint's rule that runs nearest.

Thresholds lie much closer, and neighbours run the same. The default threshold is timed as well.
"""

OTHERS_TIMED_AT = (1 / 5, 1 / 3, 1 / 2, 2 / 3, 1.0)
"""The same of rules that are not the checkpoint's."""


@dataclass(frozen=True, slots=True)
class Point:
    """What one threshold gives; shares are 0 to 1, intervals hold 95 % of bootstrap draws."""

    threshold: float
    accuracy: float
    accuracy_drop: float
    agreement: float
    mean_layers: float
    layer_speedup: float
    accuracy_interval: Interval
    accuracy_drop_interval: Interval
    agreement_interval: Interval
    mean_layers_interval: Interval


@dataclass(frozen=True, slots=True)
class RuleCurve:
    """One exit rule over its thresholds, and those that were timed."""

    kind: RuleKind
    points: tuple[Point, ...]
    timings: tuple[Timing, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Accuracies per exit, the point at the default threshold, and every rule's curve.

    `points` are those of the checkpoint's own rule. `before` and `after` are the reliability of
    each exit without and with its temperature.
    """

    examples: int
    accuracy_full: float
    exit_layers: tuple[int, ...]
    exit_accuracies: tuple[float, ...]
    rule: RuleKind
    default: Point
    points: tuple[Point, ...]
    rules: tuple[RuleCurve, ...]
    before: tuple[Reliability, ...]
    after: tuple[Reliability, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation with what it was made from, as a report needs it.

    `logits` is `[exits, rows, labels]`, `labels` int64 `[rows]`; `sweep` holds the default
    threshold alone.
    """

    evaluation: Evaluation
    rows: tuple[Row, ...]
    logits: Tensor
    labels: Tensor
    sweep: Sweep


def best_device() -> torch.device:
    """Where models are trained, calibrated and evaluated: a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def exit_logits(
    model: MultiExitModel,
    rows: Sequence[Row],
    device: torch.device,
    batch_rows: int = 32,
    read: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Logits of every exit for every row, in dataset order: float32 `[exits, rows, labels]`.

    `read` hears after each batch how many rows of all were read.
    """
    config, done = model.config, 0
    result = torch.empty(config.exits, len(rows), len(config.labels))
    for batch in sorted_batches(rows, batch_rows):
        packed, _ = collate(batch, device)
        places = torch.tensor([row.index for row in batch])
        result[:, places] = torch.stack(model(packed)).float().cpu()
        done += len(batch)
        if read is not None:
            read(done, len(rows))
    return result


def exit_accuracies(logits: Tensor, labels: Tensor) -> list[float]:
    """Share of right answers at each exit, of logits `[exits, rows, labels]`."""
    accuracies: list[float] = (logits.argmax(-1) == labels).double().mean(-1).tolist()
    return accuracies


def evaluate(checkpoint: Checkpoint, dataset: Dataset, timed_rows: int = 0) -> Evaluated:
    """Run the whole dataset at full depth once, sweep every rule, and time `timed_rows` of it.

    A rule that is not the checkpoint's own uses its exit weights, or equal ones, and no
    thresholds of single exits.
    """
    rows = tokenize(dataset.examples, checkpoint.tokenizer)
    labels = torch.tensor([row.label for row in rows])
    device = next(checkpoint.model.parameters()).device
    logits = exit_logits(checkpoint.model, rows, device)
    layers, calibration = checkpoint.config.exit_layers, checkpoint.calibration
    draws = draws_of(len(rows))
    own = calibration.rule
    weights = own.weights or (1.0,) * len(layers)
    timed = rows[:: max(1, len(rows) // timed_rows)][:timed_rows] if timed_rows else []

    def swept(rule: ExitRule, thresholds: Sequence[float]) -> Sweep:
        scored = score_exits(rule, logits, calibration.temperatures)
        return Sweep.of(scored, labels, layers, thresholds)

    curves: list[RuleCurve] = []
    for kind in RuleKind:
        rule = own if kind is own.kind else ExitRule(kind, weights, powers=own.powers)
        sweep = swept(rule, thresholds_of(rule, logits.shape[-1]))
        early = EarlyExits(checkpoint, rule, device)
        at = _spread(sweep, TIMED_AT if rule is own else OTHERS_TIMED_AT)
        if rule is own:
            at.add(calibration.default_threshold)
        timings = time_thresholds(early, timed, sorted(at) if timed else [])
        curves.append(RuleCurve(kind, points_of(sweep, draws), timings))
    default = swept(own, [calibration.default_threshold])
    accuracies = exit_accuracies(logits, labels)
    evaluation = Evaluation(
        examples=len(rows),
        accuracy_full=accuracies[-1],
        exit_layers=layers,
        exit_accuracies=tuple(accuracies),
        rule=own.kind,
        default=points_of(default, draws)[0],
        points=next(curve.points for curve in curves if curve.kind is own.kind),
        rules=tuple(curves),
        before=tuple(Reliability.of(at, labels, 1.0) for at in logits),
        after=tuple(
            Reliability.of(at, labels, temperature)
            for at, temperature in zip(logits, calibration.temperatures, strict=True)
        ),
    )
    return Evaluated(evaluation, tuple(rows), logits, labels, default)


def points_of(sweep: Sweep, draws: Tensor) -> tuple[Point, ...]:
    """The points of a sweep with their bootstrap intervals."""
    lost = sweep.full_right.double() - sweep.right.double()
    spreads = [intervals(each, draws) for each in (sweep.right, lost, sweep.agrees, sweep.layers)]
    return tuple(
        Point(
            threshold=at.threshold,
            accuracy=at.accuracy,
            accuracy_drop=at.accuracy_drop,
            agreement=at.agreement,
            mean_layers=at.mean_layers,
            layer_speedup=at.layer_speedup,
            accuracy_interval=accuracy,
            accuracy_drop_interval=drop,
            agreement_interval=agreement,
            mean_layers_interval=layers,
        )
        for at, accuracy, drop, agreement, layers in zip(sweep.points(), *spreads, strict=True)
    )


def _spread(sweep: Sweep, wanted: Sequence[float]) -> set[float]:
    """Thresholds that run about these shares of full depth."""
    shares = sweep.layers.mean(-1) / sweep.full_layers
    return {sweep.thresholds[int((shares - share).abs().argmin())] for share in wanted}
