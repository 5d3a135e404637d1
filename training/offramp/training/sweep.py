"""What every threshold of a sweep gives on rows that were run to full depth once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from offramp.model.calibration import TradeOff
from offramp.model.rules import ExitRule, ExitScores, RuleKind

THRESHOLDS = (*(round(0.01 * step, 2) for step in range(100)), 0.995, 0.999, 1.0)


def thresholds_of(rule: ExitRule, labels: int) -> tuple[float, ...]:
    """The thresholds worth trying: the highest of `labels` probabilities is never below 1/labels.

    Fixed before any data is seen, as a promise needs.
    """
    lowest = 1 / labels if rule.kind is RuleKind.MAX_PROB and not rule.exponents else 0.0
    return tuple(threshold for threshold in THRESHOLDS if threshold >= lowest)


def leaving_exits(scores: Tensor, thresholds: Tensor) -> Tensor:
    """Exit at which each row leaves, int64 `[thresholds, rows]`, of scores `[exits, rows]`.

    The first whose score reaches the threshold, else the last: what the scheduler does with
    requests. `thresholds` is float64, `[thresholds]` or one an exit, `[thresholds, exits]`.
    """
    limits = thresholds.unsqueeze(-1) if thresholds.ndim == 1 else thresholds
    confident = scores.unsqueeze(0) >= limits.unsqueeze(-1)
    confident[:, -1] = True
    return confident.view(torch.uint8).argmax(1)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Rows under each threshold; the tensors are `[thresholds, rows]`, `full_right` `[rows]`.

    `exits` is int64, `right`, `agrees` and `full_right` are booleans, `layers` is float64.
    """

    thresholds: tuple[float, ...]
    exits: Tensor
    right: Tensor
    agrees: Tensor
    layers: Tensor
    full_right: Tensor
    full_layers: int

    @classmethod
    def of(
        cls,
        scored: ExitScores,
        labels: Tensor,
        exit_layers: Sequence[int],
        thresholds: Sequence[float],
    ) -> Self:
        """Sweep `thresholds` over scored rows whose true labels are int64 `[rows]`."""
        exits = leaving_exits(scored.scores, torch.tensor(thresholds, dtype=torch.float64))
        answers = scored.labels.gather(0, exits)
        full = scored.labels[-1]
        return cls(
            thresholds=tuple(thresholds),
            exits=exits,
            right=answers == labels,
            agrees=answers == full,
            layers=torch.tensor(exit_layers, dtype=torch.float64)[exits],
            full_right=full == labels,
            full_layers=exit_layers[-1],
        )

    @property
    def losses(self) -> Tensor:
        """Rows that full depth gets right and the threshold wrong, boolean."""
        return self.full_right & ~self.right

    def points(self) -> tuple[TradeOff, ...]:
        """The means of every threshold, without promises."""
        full = self.full_right.double().mean().item()
        accuracies = self.right.double().mean(-1).tolist()
        agreements = self.agrees.double().mean(-1).tolist()
        layers = self.layers.mean(-1).tolist()
        return tuple(
            TradeOff(threshold, accuracy, full - accuracy, agreement, mean, self.full_layers / mean)
            for threshold, accuracy, agreement, mean in zip(
                self.thresholds, accuracies, agreements, layers, strict=True
            )
        )
