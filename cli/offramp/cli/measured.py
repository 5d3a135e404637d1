"""What a checkpoint costs on this machine, and where texts leave it, for the simulator."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from offramp.model.checkpoint import Checkpoint, load_checkpoint
from offramp.model.errors import ModelError
from offramp.model.tokenizer import Tokens
from offramp.scheduler.backend import Batch
from offramp.scheduler.cost import CostModel
from offramp.scheduler.request import Departure, Request, Terms
from offramp.server.backend import TorchBackend
from offramp.training.data import DataError, load_dataset

TEXTS = 400
REPEATS = 8
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


@dataclass(frozen=True, slots=True)
class Measured:
    """Costs of all stages, and the pairs of exit and tokens of some texts."""

    cost: CostModel
    samples: tuple[tuple[int, int], ...]
    stages: int

    @property
    def shares(self) -> list[float]:
        """Share of the texts that leaves at each exit."""
        return [
            sum(left == stage for left, _ in self.samples) / len(self.samples)
            for stage in range(self.stages)
        ]

    @property
    def mean_tokens(self) -> float:
        """Mean tokens of a text."""
        return sum(tokens for _, tokens in self.samples) / len(self.samples)


def measure(path: Path, data: Path, threshold: float | None, max_rows: int) -> Measured:
    """Run real texts through every stage in steps of many sizes; raises ValueError."""
    try:
        checkpoint = load_checkpoint(path, "cpu")
        dataset = load_dataset(data, checkpoint.config.labels)
    except (ModelError, DataError) as error:
        raise ValueError(str(error)) from error
    texts = [example.pair for example in dataset.examples[:TEXTS]]
    return measure_texts(checkpoint, checkpoint.tokenizer.encode(texts), threshold, max_rows)


def measure_texts(
    checkpoint: Checkpoint, texts: Sequence[Tokens], threshold: float | None, max_rows: int
) -> Measured:
    """The same of texts that are tokenized."""
    stages = checkpoint.config.exits
    if threshold is None:
        threshold = checkpoint.calibration.default_threshold
    backend = TorchBackend(checkpoint, max_rows, torch.device("cpu"))
    backend.warm(max_rows * max(len(text) for text in texts))
    cost = CostModel(stages)
    exits: dict[int, int] = {}
    for first in range(0, len(texts), 8):
        group = range(first, min(first + 8, len(texts)))
        requests = [_request(texts[index], slot) for slot, index in enumerate(group)]
        for stage in range(stages):
            readings = backend.run(Batch(stage, tuple(requests), 0.0))
            for index, reading in zip(group, readings, strict=True):
                if reading.score >= threshold or stage == stages - 1:
                    exits.setdefault(index, stage)
    for repeat in range(REPEATS):
        for rows in (size for size in SIZES if size <= max_rows):
            start = (repeat * 53 + rows * 7) % len(texts)
            chosen = [texts[(start + at) % len(texts)] for at in range(rows)]
            requests = [_request(text, slot) for slot, text in enumerate(chosen)]
            for stage in range(stages):
                batch = Batch(stage, tuple(requests), 0.0)
                started = time.perf_counter()
                backend.run(batch)
                if repeat:
                    cost.observe(stage, rows, batch.tokens, time.perf_counter() - started)
    return Measured(cost, tuple((exits[at], len(text)) for at, text in enumerate(texts)), stages)


def _request(text: Tokens, slot: int) -> Request:
    terms = Terms(threshold=2.0, min_exit=0, max_exit=0)
    return Request(text, len(text), terms, 0.0, deliver=_ignore, slot=slot)


def _ignore(departure: Departure) -> None:
    del departure
