"""Runs fused stages beside plain ones in Triton's interpreter: `python interpreted.py DTYPE`.

Prints the largest difference of a reading for each kind of encoder, as JSON; fails where one is
undefined, or where tokens are laid out beyond their own. A process of its own, because Triton
decides when it is imported whether it interprets.
"""

import json
import os
import random
import sys
from copy import deepcopy
from dataclasses import replace
from math import isfinite, isnan
from typing import Any
from unittest.mock import patch

os.environ["TRITON_INTERPRET"] = "1"

import torch

from offramp.model.calibration import Calibration
from offramp.model.config import Activation, EncoderConfig, ModelConfig, Pooling
from offramp.model.exits import MultiExitModel
from offramp.model.fused import FusedStages, fits
from offramp.model.graphs import EagerSteps
from offramp.model.resident import SCORE, ResidentStages, StepInputs, rows_of, token_buckets
from offramp.model.rules import ExitRule
from offramp.model.trial import TOLERANCES, largest_difference

CPU = torch.device("cpu")
RULE = ExitRule(powers=(0.7, 1.0), exponents=(1.0, 2.5))
CALIBRATION = Calibration((1.3, 0.8), 0.9, (), RULE)
BERT = EncoderConfig(
    family="bert",
    vocab_size=30,
    embedding_size=48,
    hidden_size=48,
    intermediate_size=64,
    layers=2,
    heads=3,
    positions=80,
    position_offset=0,
    token_types=2,
    activation=Activation.GELU,
    layer_norm_eps=1e-12,
)
KINDS = {
    "bert": (BERT, Pooling.MEAN),
    "attending": (BERT, Pooling.ATTENTION),
    "distilbert": (replace(BERT, token_types=0, activation=Activation.RELU), Pooling.MEAN),
    "electra": (
        replace(BERT, embedding_size=32, position_offset=2, activation=Activation.SILU),
        Pooling.MEAN,
    ),
}
STEPS = [
    (0, ((5, 0, 2), (3, 70, 1))),
    (0, ((1,), (12,))),
    (1, ((1, 0, 2), (12, 70, 1))),
]
"""Stage, and slots and lengths of the rows that meet there."""


ROOM = 64


def model_of(encoder: EncoderConfig, pooling: Pooling) -> MultiExitModel:
    """Two exits, random weights."""
    config = ModelConfig(encoder, ("a", "b", "c"), (1, 2), pooling, max_tokens=70)
    assert fits(config)
    torch.manual_seed(0)
    model = MultiExitModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def differences(model: MultiExitModel, dtype: torch.dtype) -> float:
    """The largest difference of a reading in these steps."""
    runners = [
        EagerSteps(kind(deepcopy(model), CALIBRATION, 6, dtype, CPU), 4, 128, CPU)
        for kind in (ResidentStages, FusedStages)
    ]
    largest = 0.0
    for stage, (slots, lengths) in STEPS:
        bucket = runners[0].bucket(len(lengths), sum(lengths))
        said: list[torch.Tensor] = []
        for runner in runners:
            draw = random.Random(stage)
            inputs = runner.inputs(bucket)
            inputs.slots.fill_(6)
            inputs.lengths.zero_()
            inputs.slots[: len(slots)] = torch.tensor(slots)
            inputs.lengths[: len(lengths)] = torch.tensor(lengths)
            inputs.ids.copy_(torch.tensor(draw.choices(range(30), k=bucket)))
            inputs.types.copy_(torch.tensor(draw.choices(range(2), k=bucket)))
            said.append(runner.run(stage, bucket)[: len(slots)])
        difference = float((said[0] - said[1]).abs().max())
        assert isfinite(difference), said
        largest = max(largest, difference)
    return largest


def numbers_beyond(tokens: int) -> int:
    """How many are written behind the memory of so many tokens when these are laid out."""
    made: list[torch.Tensor] = []

    def roomy(count: int, **settings: Any) -> torch.Tensor:  # noqa: ANN401
        made.append(torch.full((count + ROOM,), -1, **settings))
        return made[-1][:count]

    stages = FusedStages(model_of(BERT, Pooling.MEAN), CALIBRATION, 6, torch.float32, CPU)
    inputs = EagerSteps(stages, 4, 128, CPU).inputs(tokens)
    with patch.object(torch, "empty", roomy):
        stages._lay_out(inputs)  # pyright: ignore[reportPrivateUsage]
    assert len(made) == 3
    return sum(int((whole[-ROOM:] != -1).sum()) for whole in made)


def check_trial(dtype: torch.dtype) -> None:
    """What is tried before a model serves passes, and notices a kernel that goes wrong."""
    model = model_of(BERT, Pooling.ATTENTION)
    assert largest_difference(model, CALIBRATION, dtype, CPU) < TOLERANCES[dtype]
    with patch.object(FusedStages, "_raised", lambda _, layer, hidden: 0 * layer.up(hidden)):
        assert largest_difference(model, CALIBRATION, dtype, CPU) > TOLERANCES[dtype]
    read = FusedStages._readings  # pyright: ignore[reportPrivateUsage]

    def halved(stages: FusedStages, stage: int, inputs: StepInputs) -> torch.Tensor:
        said = read(stages, stage, inputs)
        said[:, SCORE] /= 2
        return said

    with patch.object(FusedStages, "_readings", halved):
        assert largest_difference(model, CALIBRATION, dtype, CPU) > TOLERANCES[dtype]
    undefined = torch.full((rows_of(token_buckets(256)[-1]), 5), float("nan"))
    with patch.object(FusedStages, "_readings", lambda *_: undefined):
        assert not largest_difference(model, CALIBRATION, dtype, CPU) < TOLERANCES[dtype]


def check_undefined() -> None:
    """A row of undefined numbers has an undefined score, and no other row has."""
    model = model_of(BERT, Pooling.MEAN)
    with torch.no_grad():
        model.encoder.embeddings.word.weight[7] = float("nan")
    steps = EagerSteps(FusedStages(model, CALIBRATION, 6, torch.float32, CPU), 4, 128, CPU)
    inputs = steps.inputs(steps.bucket(2, 8))
    inputs.slots.fill_(6)
    inputs.slots[:2] = torch.tensor((3, 1))
    inputs.lengths.zero_()
    inputs.lengths[:2] = torch.tensor((5, 3))
    inputs.ids.fill_(2)
    inputs.ids[4] = 7
    for stage in range(2):
        scores = steps.run(stage, steps.bucket(2, 8))[:2, SCORE].tolist()
        assert isnan(scores[0]), scores
        assert 0 < scores[1] < 1, scores


if __name__ == "__main__":
    dtype = getattr(torch, sys.argv[1])
    assert not any(map(numbers_beyond, token_buckets(128)))
    if dtype is torch.float32:
        check_trial(dtype)
        check_undefined()
    print(json.dumps({name: differences(model_of(*kind), dtype) for name, kind in KINDS.items()}))
