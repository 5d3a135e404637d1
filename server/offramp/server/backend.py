"""The model as the scheduler's backend: stages run from slot to slot."""

from collections.abc import Callable, Iterable, Sequence
from math import isnan
from threading import Lock

import torch
from torch import Tensor

from offramp.model.checkpoint import Checkpoint
from offramp.model.packing import Layout, PackedTokens
from offramp.model.precision import Precision
from offramp.model.readings import read, scaled_softmax
from offramp.model.rules import RuleKind, Streak
from offramp.model.runner import runner_of
from offramp.model.tokenizer import Tokens
from offramp.scheduler.backend import Batch
from offramp.scheduler.reading import Reading
from offramp.scheduler.request import Request
from offramp.server.store import ViewStore


class TorchBackend:
    """Runs the stages of one checkpoint, in several threads if no two batches share a slot."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        slots: int,
        device: torch.device,
        precision: Precision = Precision.FLOAT32,
    ) -> None:
        self._runner = runner_of(checkpoint.model, device, precision)
        self._temperatures = checkpoint.calibration.temperatures
        self._rule = checkpoint.calibration.rule
        self._last = checkpoint.config.exits - 1
        self._device = device
        self._store = ViewStore(slots)
        # What the exit rule remembers of the request in each slot.
        self._labels = torch.zeros(slots, dtype=torch.int64, device=device)
        self._weights = torch.zeros(slots, dtype=torch.float64, device=device)
        self._counting = Lock()
        self.padding = 0
        """Token positions computed so far beyond the tokens of the requests."""

    def warm(self, tokens: int) -> Iterable[Callable[[], None]]:
        """Pieces of work that compile what steps of up to `tokens` tokens need."""
        return self._runner.warm(tokens)

    @torch.inference_mode()
    def run(self, batch: Batch) -> Sequence[Reading]:
        """Run the batch's stage; readings come in the order of its requests."""
        order = sorted(range(len(batch.requests)), key=lambda i: batch.requests[i].tokens)
        requests = [batch.requests[i] for i in order]
        slots = [request.slot for request in requests]
        if batch.stage == 0:
            packed = PackedTokens.of([_tokens(request) for request in requests], self._device)
            layout, pooled = packed.layout, None
            hidden = self._runner.embed(packed)
        else:
            layout = Layout.of([request.tokens for request in requests])
            hidden, pooled = self._store.get(slots)
        with self._counting:
            self.padding += self._runner.positions(layout.tokens) - layout.tokens
        hidden, pooled = self._runner.run_layers(batch.stage, hidden, pooled, layout)
        readings: list[Reading] = []
        streak: Streak | None = None
        if batch.reads or self._rule.remembers:
            logits = self._runner.logits(batch.stage, pooled)
            readings, streak = self._read(logits, batch.stage, slots, order)
        if len(slots) > 1 and _undefined(readings, pooled):
            # Of products over all rows: run again in halves, whoever it is harms nobody else.
            raise ArithmeticError(f"the model gave undefined numbers at exit {batch.stage}")
        # Kept last: a step that fails leaves the slots as they were, to be run again.
        if batch.stage < self._last:
            self._store.put(slots, layout.lengths, hidden, pooled)
        else:
            self._store.drop(slots)
        if streak is not None:
            self._labels[slots], self._weights[slots] = streak.labels, streak.weights
        return readings if batch.reads else []

    def _read(
        self, logits: Tensor, stage: int, slots: Sequence[int], order: Sequence[int]
    ) -> tuple[list[Reading], Streak | None]:
        """Readings of the rows of `logits`, the row of each at its place in the batch.

        And what the exit rule remembers of the rows from here on.
        """
        temperature = self._temperatures[stage]
        if self._rule.kind is RuleKind.MAX_PROB:
            probable: list[list[float]] = scaled_softmax(logits, temperature).tolist()
            return _in_place([self._sure(stage, row) for row in probable], order), None
        readings = read(logits, temperature)
        remembered = stage > 0 and self._rule.remembers
        before = Streak(self._labels[slots], self._weights[slots]) if remembered else None
        scores, streak = self._rule.scores(stage, readings, before)
        columns = (readings.labels, scores, readings.probabilities)
        labels, scored, probabilities = (column.tolist() for column in columns)
        rows = zip(labels, scored, probabilities, strict=True)
        return _in_place([Reading(label, at, tuple(row)) for label, at, row in rows], order), streak

    def _sure(self, stage: int, probabilities: Sequence[float]) -> Reading:
        """The reading of a row by `max_prob`: few rows are read quicker here than by tensors."""
        label = probabilities.index(max(probabilities))
        return Reading(label, self._rule.score(stage, probabilities), tuple(probabilities))


def _in_place(readings: Sequence[Reading], order: Sequence[int]) -> list[Reading]:
    """The readings of rows that were run in this order, each at its request's place."""
    places: dict[int, Reading] = dict(zip(order, readings, strict=True))
    return [places[index] for index in range(len(order))]


def _undefined(readings: Sequence[Reading], pooled: Tensor) -> bool:
    """Whether any row has undefined numbers; where none was read, what is pooled tells."""
    if readings:
        return any(isnan(reading.score) for reading in readings)
    return not bool(pooled.sum().isfinite())


def _tokens(request: Request) -> Tokens:
    assert isinstance(request.payload, Tokens)
    return request.payload
