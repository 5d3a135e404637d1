"""One self-contained page that tells a person what an evaluation found."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jinja2 import Environment, StrictUndefined
from torch import Tensor

from offramp.model.checkpoint import Checkpoint
from offramp.training.data import Dataset, Example
from offramp.training.evaluate import Evaluated, Point
from offramp.training.plots import curves, exits_by_group, on_the_clock, reliability, svg

TEMPLATE = Path(__file__).with_name("report.html")
EXAMPLES = 8
LENGTH_GROUPS = 5
SHOWN_LAYERS = 9
"""Rows of the table, spread evenly over the mean layers."""


@dataclass(frozen=True, slots=True)
class Told:
    """An example of the page: what it is, what the first and the last exit say of it."""

    example: Example
    truth: str
    first: str
    first_confidence: float
    last: str
    last_confidence: float
    layer: int


def report(evaluated: Evaluated, checkpoint: Checkpoint, dataset: Dataset, source: str) -> str:
    """The page as HTML; nothing in it is fetched from anywhere."""
    evaluation = evaluated.evaluation
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    told = _told(evaluated, checkpoint, dataset)
    return template.render(
        model=checkpoint.name,
        source=source,
        config=checkpoint.config,
        calibration=checkpoint.calibration,
        evaluation=evaluation,
        default=evaluation.default,
        shown=_shown(evaluation.points, evaluation.default),
        exits=zip(
            evaluation.exit_layers,
            evaluation.exit_accuracies,
            evaluation.before,
            evaluation.after,
            _leaving(evaluated),
            strict=True,
        ),
        curves=svg(curves(evaluation)),
        clock=svg(on_the_clock(evaluation)) if evaluation.rules[0].timings else "",
        reliability=svg(reliability(evaluation.exit_layers, evaluation.before, evaluation.after)),
        by_length=svg(exits_by_group(_by_length(evaluated), evaluation.exit_layers)),
        by_class=svg(
            exits_by_group(_by_class(evaluated, checkpoint.config.labels), evaluation.exit_layers)
        ),
        hardest=told[:EXAMPLES],
        easiest=told[::-1][:EXAMPLES],
    )


def _shown(points: Sequence[Point], default: Point) -> list[Point]:
    """The default, and some points from the fastest to full depth, evenly apart in layers."""
    first, last = points[0].mean_layers, points[-1].mean_layers
    wanted = [first + (last - first) * i / (SHOWN_LAYERS - 1) for i in range(SHOWN_LAYERS)]
    chosen = {min(points, key=lambda p: abs(p.mean_layers - at)) for at in wanted}
    return sorted({*chosen, default}, key=lambda point: point.threshold)


def _leaving(evaluated: Evaluated) -> list[float]:
    """Share of all texts that leave at each exit."""
    return _shares(evaluated.sweep.exits[0], len(evaluated.evaluation.exit_layers))


def _shares(exits: Tensor, count: int) -> list[float]:
    shares: list[float] = (torch.bincount(exits, minlength=count) / len(exits)).tolist()
    return shares


def _by_length(evaluated: Evaluated) -> list[tuple[str, list[float]]]:
    """Groups of about equal size, from the shortest texts to the longest."""
    lengths = torch.tensor([len(row.tokens) for row in evaluated.rows])
    count = len(evaluated.evaluation.exit_layers)
    groups: list[tuple[str, list[float]]] = []
    for part in lengths.argsort(stable=True).tensor_split(LENGTH_GROUPS):
        if len(part):
            name = f"{lengths[part[0]]} to {lengths[part[-1]]} tokens"
            groups.append((name, _shares(evaluated.sweep.exits[0, part], count)))
    return groups


def _by_class(evaluated: Evaluated, names: Sequence[str]) -> list[tuple[str, list[float]]]:
    count = len(evaluated.evaluation.exit_layers)
    groups: list[tuple[str, list[float]]] = []
    for index, name in enumerate(names):
        rows = evaluated.labels == index
        if rows.any():
            right = evaluated.sweep.right[0, rows].double().mean().item()
            label = f"{name} ({right:.1%} right)"
            groups.append((label, _shares(evaluated.sweep.exits[0, rows], count)))
    return groups


def _told(evaluated: Evaluated, checkpoint: Checkpoint, dataset: Dataset) -> list[Told]:
    """The hardest examples first, the easiest last, each once.

    Hard is what the exits give the true label little probability for, over all of them.
    """
    temperatures = torch.tensor(checkpoint.calibration.temperatures).view(-1, 1, 1)
    probabilities = (evaluated.logits / temperatures).softmax(-1)
    rows = torch.arange(len(evaluated.labels))
    truth = probabilities[:, rows, evaluated.labels].mean(0)
    order: list[int] = truth.argsort(stable=True).tolist()
    confidences, labels = probabilities.max(-1)
    names, layers = checkpoint.config.labels, checkpoint.config.exit_layers
    return [
        Told(
            example=dataset.examples[row],
            truth=names[int(evaluated.labels[row])],
            first=names[int(labels[0, row])],
            first_confidence=confidences[0, row].item(),
            last=names[int(labels[-1, row])],
            last_confidence=confidences[-1, row].item(),
            layer=layers[int(evaluated.sweep.exits[0, row])],
        )
        for row in (*order[:EXAMPLES], *order[EXAMPLES:][-EXAMPLES:])
    ]
