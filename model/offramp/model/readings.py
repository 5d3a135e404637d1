"""What an exit head says of a batch, once its logits are scaled by the exit's temperature."""

from dataclasses import dataclass

from torch import Tensor

HIGHEST_CONFIDENCE = 1.0 - 2.0**-24
"""The largest float32 below 1. Confidences and scores are cut here, so none reaches a threshold
of 1 and that threshold means full depth."""


@dataclass(frozen=True, slots=True)
class Readings:
    """What one exit head says of a batch.

    `labels` is int64 `[rows]`, `confidences` float64 `[rows]` in (0, 1), `probabilities` float32
    `[rows, labels]`.
    """

    labels: Tensor
    confidences: Tensor
    probabilities: Tensor


def read(logits: Tensor, temperature: float) -> Readings:
    """Readings of `[rows, labels]` logits: the softmax scaled by the exit's temperature.

    Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017).
    """
    probabilities = (logits.float() / temperature).softmax(-1)
    confidences, labels = probabilities.max(-1)
    return Readings(labels, confidences.clamp(max=HIGHEST_CONFIDENCE).double(), probabilities)
