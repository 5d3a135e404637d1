"""The model as the scheduler's backend: stages run from slot to slot."""

from collections.abc import Sequence

import torch
from torch import Tensor

from offramp.model.calibration import read
from offramp.model.checkpoint import Checkpoint
from offramp.model.packing import Layout, PackedTokens
from offramp.model.runner import Precision, runner_of
from offramp.model.tokenizer import Tokens
from offramp.scheduler.backend import Batch
from offramp.scheduler.request import Reading, Request
from offramp.server.store import ViewStore


class TorchBackend:
    """Runs the stages of one checkpoint; not thread-safe, so one thread owns it."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        slots: int,
        device: torch.device,
        precision: Precision = Precision.FLOAT32,
    ) -> None:
        self._runner = runner_of(checkpoint.model, device, precision)
        self._temperatures = checkpoint.calibration.temperatures
        self._last = checkpoint.config.exits - 1
        self._device = device
        self._store = ViewStore(slots)
        self.positions = 0
        """Token positions that the last step computed, padding included."""

    def warm(self, tokens: int) -> None:
        """Compile whatever steps of up to `tokens` tokens need."""
        self._runner.warm(tokens)

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
        self.positions = self._runner.positions(layout.tokens)
        output = self._runner.run_stage(batch.stage, hidden, pooled, layout)
        readings = self._read(output.logits, batch.stage, order) if batch.reads else []
        # Kept last: a step that fails leaves the slots as they were, to be run again.
        if batch.stage < self._last:
            self._store.put(slots, layout.lengths, output.hidden, output.pooled)
        else:
            self._store.drop(slots)
        return readings

    def _read(self, logits: Tensor, stage: int, order: Sequence[int]) -> list[Reading]:
        """Readings of the rows of `logits`, the row of each at its place in the batch."""
        readings = read(logits, self._temperatures[stage])
        columns = (readings.labels, readings.confidences, readings.probabilities)
        labels, confidences, probabilities = (column.tolist() for column in columns)
        result: dict[int, Reading] = {}
        for at, label, confidence, row in zip(
            order, labels, confidences, probabilities, strict=True
        ):
            result[at] = Reading(label, confidence, tuple(row))
        return [result[at] for at in range(len(order))]


def _tokens(request: Request) -> Tokens:
    assert isinstance(request.payload, Tokens)
    return request.payload
