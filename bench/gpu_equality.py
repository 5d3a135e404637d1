"""Whether a device says what the float32 module says on a CPU."""

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from typing import Any

import torch
from gpu_subjects import Limits, backend_of, requests_of

from offramp.model.checkpoint import Checkpoint
from offramp.model.packing import PackedTokens
from offramp.model.precision import Precision
from offramp.model.readings import scaled_softmax
from offramp.model.tokenizer import Tokens
from offramp.scheduler.backend import Batch
from offramp.scheduler.reading import Reading
from offramp.server.device import DeviceBackend

TOLERANCES = {Precision.FLOAT32: 1e-4, Precision.BFLOAT16: 0.05, Precision.FLOAT16: 0.01}
"""Of probabilities, from those of the float32 module."""


def equality(
    make: Callable[[], Checkpoint], device: torch.device, tokens: Sequence[Tokens]
) -> dict[str, Any]:
    """Probabilities, labels and exits of all rows against the float32 module on the CPU."""
    checkpoint = make()
    temperatures = checkpoint.calibration.temperatures
    wanted: list[list[list[float]]] = []
    with torch.inference_mode():
        model = checkpoint.model.float()
        for row in tokens:
            logits = model(PackedTokens.of([row], torch.device("cpu")))
            stages = zip(logits, temperatures, strict=True)
            wanted.append([scaled_softmax(said, at)[0].tolist() for said, at in stages])
    found: dict[str, Any] = {"rows": len(tokens)}
    rule = checkpoint.calibration.rule
    leaves = partial(_exit, checkpoint.calibration.default_threshold)
    exits = [leaves([rule.score(*said) for said in enumerate(row)]) for row in wanted]
    for precision, tolerance in TOLERANCES.items():
        backend = backend_of(make(), device, precision, Limits(64, 8192, 64))
        readings = _said(backend, tokens, checkpoint.config.exits)
        said = [[list(reading.probabilities) for reading in row] for row in readings]
        scores = [[reading.score for reading in row] for row in readings]
        differences = [
            abs(one - other)
            for rows in zip(said, wanted, strict=True)
            for stages in zip(*rows, strict=True)
            for one, other in zip(*stages, strict=True)
        ]
        if not all(map(isfinite, differences)):
            raise ValueError(f"{precision} gives undefined numbers")
        found[precision.value] = {
            "largest_probability_difference": max(differences),
            "within_tolerance": max(differences) < tolerance,
            "labels_of_all_exits_as_module": _same(
                said, wanted, lambda row: [stage.index(max(stage)) for stage in row]
            ),
            "labels_at_full_depth_as_module": _same(
                said, wanted, lambda row: row[-1].index(max(row[-1]))
            ),
            "exits_as_module": statistics.fmean(
                one == other for one, other in zip(map(leaves, scores), exits, strict=True)
            ),
        }
    return found


def _said(
    backend: DeviceBackend, tokens: Sequence[Tokens], exits: int, rows: int = 64
) -> list[list[Reading]]:
    """Readings of all stages of all rows."""
    said: list[list[Reading]] = []
    for at in range(0, len(tokens), rows):
        requests = requests_of(tokens[at : at + rows])
        steps = [backend.run(Batch(stage, requests, 0.0)) for stage in range(exits)]
        said += map(list, zip(*steps, strict=True))
    return said


def _same(said: Sequence[Any], wanted: Sequence[Any], what: Callable[[Any], object]) -> float:
    return statistics.fmean(
        what(one) == what(other) for one, other in zip(said, wanted, strict=True)
    )


def _exit(threshold: float, scores: Sequence[float]) -> int:
    """The exit that a row of these scores leaves at."""
    for stage, score in enumerate(scores[:-1]):
        if score >= threshold:
            return stage
    return len(scores) - 1
