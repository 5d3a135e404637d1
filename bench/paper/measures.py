"""What two answerers differ by, and other measures of a page, each a number or an interval."""

from statistics import fmean

import torch
from torch import Tensor

from offramp.training.temperature import Reliability

DRAWS = 1000
CHANCES = 100


def ece_by_chance(logits: Tensor, temperature: float) -> float:
    """Mean ECE of an exit that is perfectly calibrated, on as many texts: its labels are drawn."""
    probabilities = (logits.double() / temperature).softmax(-1)
    draw = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(probabilities, CHANCES, replacement=True, generator=draw)
    return fmean(Reliability.of(logits, labels, temperature).ece for labels in drawn.unbind(1))


def gain(right: Tensor, other: Tensor) -> list[float]:
    """95 % of the bootstrap of what one answerer's accuracy is over another's, paired."""
    rows = len(right)
    draws = torch.randint(rows, (DRAWS, rows), generator=torch.Generator().manual_seed(0))
    gains = (right.double() - other.double())[draws].mean(1)
    ends: list[float] = gains.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return ends


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of right answers, of logits `[rows, labels]`."""
    share: float = (logits.argmax(-1) == labels).double().mean().item()
    return share


def spearman(one: Tensor, other: Tensor) -> float:
    """Correlation of ranks, equal values sharing the mean of theirs."""
    ranks = torch.stack([_ranks(one), _ranks(other)])
    return torch.corrcoef(ranks)[0, 1].item()


def _ranks(values: Tensor) -> Tensor:
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    ranks: Tensor = (ends - (counts.double() - 1) / 2)[inverse]
    return ranks
