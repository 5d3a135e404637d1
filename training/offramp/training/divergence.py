"""A run whose numbers are no longer finite: it ends there, and leaves no checkpoint."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from offramp.model.errors import ModelError


class DivergedRunError(ModelError):
    """A run that left what numbers can hold; says where, and what to do."""

    def __init__(self, found: str) -> None:
        super().__init__(f"{found}; lower --learning-rate")


def finite_loss(loss: Tensor, gradient_norm: Tensor, step: int) -> float:
    """The loss as a number, read from the device together with the norm of the gradients.

    Both are scalars, of the step with this number from 1. Raises DivergedRunError where one of
    them is infinite or undefined.
    """
    found, norm = torch.stack((loss.detach(), gradient_norm.to(loss))).tolist()
    for name, value in (("loss", found), ("the norm of the gradients", norm)):
        if not math.isfinite(value):
            raise DivergedRunError(f"{name} is {value} at step {step}")
    return float(found)


def refuse_beyond_half(weights: Mapping[str, Tensor]) -> None:
    """Raise DivergedRunError where a weight is not finite in float16, as checkpoints store them."""
    for name, weight in weights.items():
        if not weight.to(torch.float16).isfinite().all():
            raise DivergedRunError(f"weight {name} holds numbers beyond what a checkpoint stores")
