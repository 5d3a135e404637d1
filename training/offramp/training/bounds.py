"""How far a share may lie above what a sample shows: exact binomial bounds."""

from bisect import bisect_right

import torch
from torch import Tensor

ALPHA = 0.05
"""The share of samples for which a bound may fail: promises hold with 95 % confidence."""

HALVINGS = 40


def upper_bounds(events: Tensor, trials: int, alpha: float = ALPHA) -> Tensor:
    """The shares that so few events are unlikely to come from more than: Clopper-Pearson.

    `events` is int64 `[cases]`, each 0 to `trials`; float64 `[cases]` comes back, the largest
    share under which as few events have a probability of at least `alpha`. Whatever the true
    share, at most `alpha` of all samples give a bound below it (Clopper and Pearson, 1934).
    """
    low, high = events.double() / trials, torch.ones(len(events), dtype=torch.float64)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        holds = at_most(events, trials, middle) >= alpha
        low, high = torch.where(holds, middle, low), torch.where(holds, high, middle)
    return torch.where(events >= trials, 1.0, high)


def most_events(limit: float, trials: int) -> int:
    """The most events whose bound is within a limit; -1 if not even that of none is."""

    def bound(events: int) -> float:
        return float(upper_bounds(torch.tensor([events]), trials))

    return bisect_right(range(trials + 1), limit, key=bound) - 1


def at_most(events: Tensor, trials: int, shares: Tensor) -> Tensor:
    """The probability of `events` or fewer in independent trials of `shares`, `[cases]` each."""
    counts = torch.arange(int(events.max()) + 1, dtype=torch.float64)
    ways = -torch.lgamma(counts + 1) - torch.lgamma(trials - counts + 1)
    odds = torch.logit(shares).unsqueeze(1)
    logs = ways + counts * odds + trials * torch.log1p(-shares).unsqueeze(1)
    logs = logs.masked_fill(counts > events.unsqueeze(1), -torch.inf)
    constant = torch.lgamma(torch.tensor(trials + 1.0, dtype=torch.float64))
    return (torch.logsumexp(logs, 1) + constant).exp()
