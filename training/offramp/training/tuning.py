"""What an exit rule learns from labelled rows: weights of exits, and a threshold for each."""

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor

from offramp.model.rules import ExitRule, RuleKind, score_exits
from offramp.training.sweep import leaving_exits

ANCHOR = 0.9
"""The one threshold that stands for the tuned thresholds of all exits."""

CANDIDATES = 24
ROUNDS = 3
PRICES = tuple(0.0005 * 2**step for step in range(12))
"""Shares of accuracy that a layer may cost, from hardly any to all."""


def fit_rule(
    kind: RuleKind,
    logits: Tensor,
    labels: Tensor,
    temperatures: Sequence[float],
    exit_layers: Sequence[int],
    budget: float | None = None,
) -> ExitRule:
    """A rule for logits `[exits, rows, labels]` of rows with these labels, int64 `[rows]`.

    With a budget (mean layers) its exits get thresholds of their own, the ones found that keep
    within it with the most right answers; they hold at threshold `ANCHOR`. Raises ValueError of
    a budget that no threshold keeps.
    """
    right = logits.argmax(-1) == labels
    weights = _weights(right, logits.shape[-1])
    rule = ExitRule(kind, weights)
    if budget is None:
        return rule
    scores = score_exits(rule, logits, temperatures).scores
    limits = tune_thresholds(scores, right, exit_layers, budget)
    return ExitRule(kind, weights, tuple(log(ANCHOR) / log(limit) for limit in limits))


def tune_thresholds(
    scores: Tensor, right: Tensor, exit_layers: Sequence[int], budget: float
) -> tuple[float, ...]:
    """One threshold an exit for scores `[exits, rows]` and right answers, booleans alike.

    For each price of a layer, coordinate ascent on accuracy less price times mean layers, from
    the best threshold that all exits share; of what that visits, the most accurate within budget.
    """
    if budget < exit_layers[0]:
        raise ValueError(
            f"a budget of {budget:g} mean layers can't be kept: the first exit is after layer"
            f" {exit_layers[0]}"
        )
    steps = torch.linspace(0, 1, CANDIDATES, dtype=torch.float64)
    candidates = scores.quantile(steps, dim=1).clamp(0.01, 0.9999)
    shared = torch.unique(candidates).unsqueeze(1).expand(-1, len(scores))
    accuracies, layers = outcomes(scores, right, exit_layers, shared)
    visited = [(shared, accuracies, layers)]
    for price in PRICES:
        best = shared[(accuracies - price * layers).argmax()]
        for exit_index in [*range(len(scores) - 1)] * ROUNDS:
            tried = best.repeat(CANDIDATES, 1)
            tried[:, exit_index] = candidates[:, exit_index]
            rights, costs = outcomes(scores, right, exit_layers, tried)
            best = tried[(rights - price * costs).argmax()]
            visited.append((tried, rights, costs))
    limits, accuracies, layers = (torch.cat(parts) for parts in zip(*visited, strict=True))
    worth = torch.where(layers <= budget, accuracies - 1e-6 * layers, -1.0)
    chosen: list[float] = limits[worth.argmax()].tolist()
    return tuple(chosen)


def outcomes(
    scores: Tensor, right: Tensor, exit_layers: Sequence[int], limits: Tensor
) -> tuple[Tensor, Tensor]:
    """Accuracy and mean layers, `[tries]` each, under thresholds `[tries, exits]`."""
    exits = leaving_exits(scores, limits)
    layers = torch.tensor(exit_layers, dtype=torch.float64)[exits]
    return right.gather(0, exits).double().mean(-1), layers.mean(-1)


def _weights(right: Tensor, labels: int) -> tuple[float, ...]:
    """The log odds that an exit is right, and of guessing off them (SAMME, Zhu et al. 2009)."""
    rows = right.shape[1]
    shares = right.double().mean(-1).clamp(0.5 / rows, 1 - 0.5 / rows).tolist()
    return tuple(max(0.01, log(share / (1 - share)) + log(labels - 1)) for share in shares)
