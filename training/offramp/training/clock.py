"""Wall-clock speedup: batches that lose their rows as these leave, against batches at full depth.

The two are timed in turn, so that whatever else the machine does meets both alike.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.model.checkpoint import Checkpoint
from offramp.model.packing import Layout, PackedTokens
from offramp.model.precision import Precision
from offramp.model.readings import read
from offramp.model.rules import ExitRule, Streak
from offramp.model.runner import StageRunner, runner_of
from offramp.training.batches import Row, sorted_batches


@dataclass(frozen=True, slots=True)
class Timing:
    """How much sooner all rows are answered than at full depth: median and range of rounds.

    `layer_speedup` is that of the very rows that were timed.
    """

    threshold: float
    layer_speedup: float
    wall_clock_speedup: float
    lowest: float
    highest: float


class EarlyExits:
    """Answers batches outright, each row at its exit, with a checkpoint's runner and rule."""

    def __init__(self, checkpoint: Checkpoint, rule: ExitRule, device: torch.device) -> None:
        self._runner: StageRunner = runner_of(checkpoint.model, device, Precision.FLOAT32)
        self._temperatures = checkpoint.calibration.temperatures
        self._layers = checkpoint.config.exit_layers
        self._rule = rule
        self._device = device

    def layer_speedup(self, batches: Sequence[Sequence[Row]], threshold: float) -> float:
        """Layers at full depth over those run by the rows of some batches."""
        exits = torch.cat([self.answer(batch, threshold)[1] for batch in batches])
        run = torch.tensor(self._layers)[exits]
        return self._layers[-1] / run.double().mean().item()

    @torch.inference_mode()
    def answer(self, batch: Sequence[Row], threshold: float) -> tuple[Tensor, Tensor]:
        """Labels and exits of a batch's rows, int64 `[rows]` each."""
        packed = PackedTokens.of([row.tokens for row in batch], self._device)
        hidden, layout = self._runner.embed(packed), packed.layout
        pooled: Tensor | None = None
        streak: Streak | None = None
        rows = torch.arange(len(batch))
        labels, exits = torch.empty(2, len(batch), dtype=torch.int64)
        for stage, temperature in enumerate(self._temperatures):
            hidden, pooled = self._runner.run_layers(stage, hidden, pooled, layout)
            readings = read(self._runner.logits(stage, pooled), temperature)
            scores, streak = self._rule.scores(stage, readings, streak)
            labels[rows], exits[rows] = readings.labels.cpu(), stage
            stay = (scores < threshold).nonzero().squeeze(1)
            if not len(stay):
                break
            if len(stay) < len(rows):
                parts = torch.split(hidden, list(layout.lengths))
                kept: list[int] = stay.tolist()
                hidden, pooled = torch.cat([parts[row] for row in kept]), pooled[stay]
                layout = Layout.of([layout.lengths[row] for row in kept])
                rows = rows[stay.cpu()]
                if streak is not None:
                    streak = Streak(streak.labels[stay], streak.weights[stay])
        return labels, exits


def time_thresholds(
    early: EarlyExits,
    rows: Sequence[Row],
    thresholds: Sequence[float],
    rounds: int = 3,
    batch_rows: int = 32,
) -> tuple[Timing, ...]:
    """Time each threshold against full depth, in turn, `rounds` times.

    Full depth is timed once a round.
    """
    batches = list(sorted_batches(rows, batch_rows))

    def seconds(threshold: float) -> float:
        started = time.perf_counter()
        for batch in batches:
            early.answer(batch, threshold)
        return time.perf_counter() - started

    seconds(1.0)
    found: dict[float, list[float]] = {threshold: [] for threshold in thresholds}
    for _ in range(rounds if thresholds else 0):
        full = seconds(1.0)
        for threshold, ratios in found.items():
            ratios.append(full / seconds(threshold))
    return tuple(
        Timing(
            threshold,
            early.layer_speedup(batches, threshold),
            statistics.median(ratios),
            min(ratios),
            max(ratios),
        )
        for threshold, ratios in found.items()
    )
