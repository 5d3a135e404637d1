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


def scaled_softmax(logits: Tensor, temperature: float) -> Tensor:
    """Probabilities, float32 `[rows, labels]`: the softmax scaled by the exit's temperature.

    Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017).
    """
    return (logits.float() / temperature).softmax(-1)


def read(logits: Tensor, temperature: float) -> Readings:
    """Readings of `[rows, labels]` logits at the exit's temperature."""
    probabilities = scaled_softmax(logits, temperature)
    return readings_of(probabilities.argmax(-1), probabilities)


def readings_of(labels: Tensor, probabilities: Tensor) -> Readings:
    """Readings of labels, int64 `[rows]`, and their probabilities, float32 `[rows, labels]`."""
    confidences = probabilities.amax(-1).clamp(max=HIGHEST_CONFIDENCE).double()
    return Readings(labels, confidences, probabilities)
