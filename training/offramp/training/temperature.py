"""Temperatures, and how well probabilities keep their word."""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from offramp.model.readings import read

HALVINGS = 60
WIDEST = 100.0
"""Bounds the fit, in standard deviations of the logits, with its inverse.

Where no answer is better than a guess no minimum exists.
"""

BINS = 15


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that minimises the negative log-likelihood of `[rows, labels]` logits.

    It is convex in the inverse temperature, so its derivative, the logit to be expected less that
    of the label, rises from below zero to above: halving finds where. A multiple of the logits has
    that multiple of the temperature. Rows that are all right, or wrong by next to nothing, would
    make everything certain: they count as if one of middling margin were wrong too.
    """
    logits = logits.double()
    labelled = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    spread = logits.std(-1, correction=0).mean().clamp(min=1e-12)
    first, second = logits.topk(2).values.unbind(-1)
    margin, middle_row = (first - second).median(0)
    doubt = (1 - (first - labelled).sum() / margin.clamp(min=1e-12)).clamp(min=0.0)
    rows = torch.cat([logits, logits[middle_row].unsqueeze(0)])
    told = torch.cat([labelled, second[middle_row].unsqueeze(0)])
    weights = torch.ones_like(told)
    weights[-1] = doubt
    low, high = -math.log(WIDEST), math.log(WIDEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        probabilities = (rows * (math.exp(middle) / spread)).softmax(-1)
        expected = (probabilities * rows).sum(-1)
        low, high = (middle, high) if (weights * (expected - told)).sum() < 0 else (low, middle)
    return spread.item() / math.exp(high)


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows of similar confidence: the share of all rows, mean confidence, accuracy."""

    share: float
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """How honest an exit's probabilities are.

    `ece` is the expected calibration error over 15 bins of equal width (Guo et al. 2017), `brier`
    the mean squared distance of the probabilities from the truth, 0 to 2 (Brier 1950). `bins`
    leaves empty ones out.
    """

    temperature: float
    ece: float
    brier: float
    bins: tuple[Bin, ...]

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor, temperature: float) -> Self:
        """Measure `[rows, labels]` logits at a temperature against int64 labels `[rows]`."""
        readings = read(logits, temperature)
        right = (readings.labels == labels).double()
        truth = torch.nn.functional.one_hot(labels, logits.shape[-1])
        places = (readings.confidences * BINS).long().clamp(max=BINS - 1)
        bins: list[Bin] = []
        for place in sorted(set(places.tolist())):
            inside = places == place
            bins.append(
                Bin(
                    share=inside.double().mean().item(),
                    confidence=readings.confidences[inside].mean().item(),
                    accuracy=right[inside].mean().item(),
                )
            )
        return cls(
            temperature=temperature,
            ece=sum(bin_.share * abs(bin_.confidence - bin_.accuracy) for bin_ in bins),
            brier=(readings.probabilities - truth).square().sum(-1).mean().item(),
            bins=tuple(bins),
        )
