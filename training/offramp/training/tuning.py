"""What an exit rule learns: weights of exits from labels, and a threshold for each without any.

Thresholds are tuned for agreement with full depth, not for accuracy. The answers of full depth are
there for any text, so as many rows as wanted can be had; and on few rows an answer that differs
from full depth and happens to be right is luck that does not come again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from offramp.model.rules import ExitRule, RuleKind, score_exits
from offramp.training.sweep import leaving_exits

ANCHOR = 0.9
"""The one threshold that stands for the tuned thresholds of all exits."""

CANDIDATES = 48
ROUNDS = 3
CHUNK = 8192
"""Rows that are looked at together: what each exit says under each threshold is in memory."""

PRICES = tuple(0.0005 * 2**step for step in range(12))
"""Shares of agreement that a layer may cost, from hardly any to all."""


@dataclass(frozen=True, slots=True)
class Aim:
    """What thresholds are tuned for.

    With a `budget` (mean layers) the most answers of full depth that it buys; without one the
    fewest layers at which at most this share of answers differs from full depth's.
    """

    budget: float | None = None
    disagreement: float = 0.0

    def worth(self, agreements: Tensor, layers: Tensor) -> Tensor:
        """The greater the better, `[tries]`: of their agreement and mean layers, `[tries]` each."""
        if self.budget is not None:
            return torch.where(layers <= self.budget, agreements - 1e-6 * layers, -1.0)
        within = agreements >= 1 - self.disagreement
        return torch.where(within, 1 / layers + 1e-6 * agreements, agreements - 1)


def fit_rule(
    kind: RuleKind,
    logits: Tensor,
    labels: Tensor,
    temperatures: Sequence[float],
    exit_layers: Sequence[int],
    aim: Aim | None = None,
    unlabelled: Tensor | None = None,
) -> ExitRule:
    """A rule for logits `[exits, rows, labels]` of rows with these labels, int64 `[rows]`.

    With an aim its exits get thresholds of their own, which hold at threshold `ANCHOR`. They are
    tuned on `unlabelled` logits of the same form where these are given. Raises ValueError of a
    budget that no threshold keeps.
    """
    right = logits.argmax(-1) == labels
    weights = _weights(right, logits.shape[-1])
    rule = ExitRule(kind, weights)
    if aim is None:
        return rule
    scored = score_exits(rule, logits if unlabelled is None else unlabelled, temperatures)
    agrees = scored.labels == scored.labels[-1]
    limits = tune_thresholds(scored.scores, agrees, exit_layers, aim)
    return ExitRule(kind, weights, tuple(log(ANCHOR) / log(limit) for limit in limits))


def tune_thresholds(
    scores: Tensor, agrees: Tensor, exit_layers: Sequence[int], aim: Aim
) -> tuple[float, ...]:
    """One threshold an exit for scores `[exits, rows]`, where answers `agrees`, booleans alike.

    For each price of a layer, coordinate ascent on agreement less price times mean layers, from
    the best threshold that all exits share; of what that visits, what the aim finds best.
    """
    steps = torch.linspace(0, 1, CANDIDATES, dtype=torch.float64)
    candidates = scores.quantile(steps, dim=1).clamp(0.01, 0.9999)
    shared = torch.unique(candidates).unsqueeze(1).expand(-1, len(scores))
    agreements, layers = outcomes(scores, agrees, exit_layers, shared)
    # Plain numbers: small tensors would split the memory that large ones between them give back.
    visited = [*zip(shared.tolist(), agreements.tolist(), layers.tolist(), strict=True)]
    for price in PRICES:
        best = shared[(agreements - price * layers).argmax()]
        for exit_index in [*range(len(scores) - 1)] * ROUNDS:
            tried = best.repeat(CANDIDATES, 1)
            tried[:, exit_index] = candidates[:, exit_index]
            found, costs = outcomes(scores, agrees, exit_layers, tried)
            best = tried[(found - price * costs).argmax()]
            visited += zip(tried.tolist(), found.tolist(), costs.tolist(), strict=True)
    limits, *outcome = zip(*visited, strict=True)
    worth = aim.worth(*(torch.tensor(values, dtype=torch.float64) for values in outcome))
    return tuple(limits[int(worth.argmax())])


def outcomes(
    scores: Tensor, agrees: Tensor, exit_layers: Sequence[int], limits: Tensor
) -> tuple[Tensor, Tensor]:
    """Agreement and mean layers, `[tries]` each, under thresholds `[tries, exits]`."""
    depths = torch.tensor(exit_layers, dtype=torch.float64)
    agreements, layers = torch.zeros(2, len(limits), dtype=torch.float64)
    rows = scores.shape[1]
    for first in range(0, rows, CHUNK):
        part = slice(first, first + CHUNK)
        exits = leaving_exits(scores[:, part], limits)
        agreements += agrees[:, part].gather(0, exits).double().sum(-1) / rows
        layers += depths[exits].sum(-1) / rows
    return agreements, layers


def _weights(right: Tensor, labels: int) -> tuple[float, ...]:
    """The log odds that an exit is right, and of guessing off them (SAMME, Zhu et al. 2009)."""
    rows = right.shape[1]
    shares = right.double().mean(-1).clamp(0.5 / rows, 1 - 0.5 / rows).tolist()
    return tuple(max(0.01, log(share / (1 - share)) + log(labels - 1)) for share in shares)
