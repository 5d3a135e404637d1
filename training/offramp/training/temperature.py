"""Temperatures, and how well probabilities keep their word."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from offramp.model.readings import read

NEWTON_STEPS = 50
HIGHEST_TEMPERATURE = 20.0
"""Bounds the fit, with its inverse, where every answer is right and no minimum exists."""

BINS = 15


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that minimises the negative log-likelihood of `[rows, labels]` logits.

    The likelihood is convex in the inverse temperature, so Newton's method finds the minimum.
    """
    logits = logits.double()
    labelled = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    inverse = torch.ones((), dtype=torch.float64)
    for _ in range(NEWTON_STEPS):
        probabilities = (logits * inverse).softmax(-1)
        mean = (probabilities * logits).sum(-1)
        variance = (probabilities * logits.square()).sum(-1) - mean.square()
        step = (mean - labelled).mean() / variance.mean().clamp(min=1e-12)
        inverse = (inverse - step).clamp(1 / HIGHEST_TEMPERATURE, HIGHEST_TEMPERATURE)
    return (1 / inverse).item()


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
