"""Fused stages beside plain ones, tried on a device before it serves.

Kernels are compiled for the card, driver and Triton at hand, which nobody may have met before.
"""

import torch

from offramp.model.calibration import Calibration
from offramp.model.exits import MultiExitModel
from offramp.model.fused import TILE, FusedStages
from offramp.model.graphs import EagerSteps
from offramp.model.readings import readings_of
from offramp.model.resident import LABEL, PROBABILITIES, SCORE, ResidentStages

LENGTHS = (3, 2 * TILE + 1, 17, TILE)
"""Of the rows that are tried, as far as the model takes so many tokens."""

TOLERANCES = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}
"""Of a reading; PyTorch rounds to the type more often than the kernels do."""


def largest_difference(
    model: MultiExitModel, calibration: Calibration, dtype: torch.dtype, device: torch.device
) -> float:
    """Of a probability at any exit, or of a score from that of its own probabilities.

    Raises whatever Triton does where it can't compile.
    """
    config = model.config
    lengths = [min(length, config.max_tokens) for length in LENGTHS]
    rows, tokens = len(lengths), sum(lengths)
    runners = [
        EagerSteps(kind(model, calibration, rows, dtype, device), rows, tokens, device)
        for kind in (ResidentStages, FusedStages)
    ]
    bucket = runners[0].bucket(rows, tokens)
    for runner in runners:
        inputs = runner.inputs(bucket)
        inputs.slots.fill_(rows)
        inputs.slots[:rows] = torch.arange(rows).flip(0)
        inputs.lengths[:rows] = torch.tensor(lengths)
        # Ids from all over the vocabulary.
        inputs.ids.copy_(torch.arange(bucket) * 7919 % config.encoder.vocab_size)
    largest = torch.zeros((), device=device)
    for stage in range(config.exits):
        plain, fused = (runner.run(stage, bucket)[:rows] for runner in runners)
        probabilities = fused[:, PROBABILITIES:]
        readings = readings_of(fused[:, LABEL].long(), probabilities)
        scores, _ = calibration.rule.scores(stage, readings, None)
        # Written so that an undefined number stays one.
        for one, other in ((plain[:, PROBABILITIES:], probabilities), (scores, fused[:, SCORE])):
            largest = torch.maximum(largest, (one - other).abs().amax())
    return float(largest)
