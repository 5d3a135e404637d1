"""What a checkpoint costs on this machine, and where texts leave it, for the simulator."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from offramp.cli.rehearsal import Rehearsal, Run
from offramp.model.checkpoint import load_checkpoint
from offramp.model.errors import ModelError
from offramp.scheduler.experiment import Machine
from offramp.scheduler.recording import Recording
from offramp.training.data import DataError, load_dataset
from offramp.training.records import Columns

TEXTS = 400
SERVED = 800
"""Requests of each run that is recorded."""

LOADS = (0.5, 0.8)
"""Small steps run at a light load, middling ones at a heavy one, large ones at saturation."""

NEVER = 2.0
"""A threshold that nobody reaches: every stage runs."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A machine as recorded, and the pairs of exit and tokens of some texts."""

    machine: Machine
    samples: tuple[tuple[int, int], ...]

    @property
    def shares(self) -> list[float]:
        """Share of the texts that leaves at each exit."""
        return [
            sum(left == stage for left, _ in self.samples) / len(self.samples)
            for stage in range(self.machine.stages)
        ]

    @property
    def mean_tokens(self) -> float:
        """Mean tokens of a text."""
        return sum(tokens for _, tokens in self.samples) / len(self.samples)


def measure(
    path: Path,
    data: Path,
    columns: Columns,
    threshold: float | None,
    *,
    slots: int,
    max_rows: int,
    max_tokens: int,
    workers: int,
) -> Measured:
    """Serve the first texts of `data` under these limits; raises ValueError."""
    try:
        checkpoint = load_checkpoint(path, "cpu")
        dataset = load_dataset(
            data, checkpoint.config.labels, columns, pairs=checkpoint.config.pairs
        )
    except (ModelError, DataError) as error:
        raise ValueError(str(error)) from error
    texts = checkpoint.tokenizer.encode([example.pair for example in dataset.examples[:TEXTS]])
    if threshold is None:
        threshold = checkpoint.calibration.default_threshold
    with Rehearsal(
        checkpoint, texts, slots=slots, max_rows=max_rows, max_tokens=max_tokens, workers=workers
    ) as rehearsal:
        return measured(rehearsal, record(rehearsal, threshold))


def record(
    rehearsal: Rehearsal, threshold: float, served: int = SERVED, seed: int = 1
) -> list[Run]:
    """Runs at saturation, the first to full depth, and at lighter loads, `served` requests each."""
    depth = rehearsal.serve([0.0] * (served // 4), NEVER)
    busy = rehearsal.serve([0.0] * served, threshold)
    rate = served / busy.seconds
    lighter = [rehearsal.serve(poisson(load * rate, served, seed), threshold) for load in LOADS]
    return [depth, busy, *lighter]


def measured(rehearsal: Rehearsal, runs: Sequence[Run]) -> Measured:
    """What `record` recorded, once or several times."""
    recording = Recording([run.steps for run in runs], rehearsal.stages)
    slots, max_rows, max_tokens = rehearsal.limits
    machine = Machine(
        recording.mean,
        rehearsal.stages,
        max_rows,
        max_tokens,
        slots,
        rehearsal.workers,
        recording.draw,
    )
    texts = rehearsal.texts
    samples = [
        (answer.exit, len(text)) for answer, text in zip(runs[-1].answers, texts, strict=False)
    ]
    return Measured(machine, tuple(samples))


def poisson(rate: float, count: int, seed: int) -> list[float]:
    """Times at which requests come, in seconds from 0."""
    chance = random.Random(seed)
    now = 0.0
    return [now := now + chance.expovariate(rate) for _ in range(count)]
