"""What runs the stages on a device."""

import logging

import torch

from offramp.model.checkpoint import Checkpoint
from offramp.model.resident import ResidentStages

logger = logging.getLogger(__name__)


def stages_of(
    checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device
) -> type[ResidentStages]:
    """What runs the stages: kernels of our own where the model, the card and Triton allow.

    They are tried beside PyTorch's operations first, with the checkpoint's own weights.
    """
    if device.type != "cuda":
        return ResidentStages
    try:
        from offramp.model.fused import FusedStages, fits  # noqa: PLC0415 - needs Triton
        from offramp.model.trial import TOLERANCES, largest_difference  # noqa: PLC0415

        if not fits(checkpoint.config):
            return ResidentStages
        difference = largest_difference(checkpoint.model, checkpoint.calibration, dtype, device)
    except Exception as error:  # noqa: BLE001 - Triton's own, its compiler's, the card's
        logger.warning(
            "Triton does not work here, so steps take up to twice as long; it needs a C compiler"
            " and Python's headers: %s",
            error,
        )
        return ResidentStages
    if not difference < TOLERANCES[dtype]:
        logger.error(
            "on this card our kernels differ from PyTorch's by %s, more than %s: they are not used,"
            " and steps take up to twice as long",
            difference,
            TOLERANCES[dtype],
        )
        return ResidentStages
    return FusedStages
