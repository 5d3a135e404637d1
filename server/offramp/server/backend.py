"""The model as the scheduler's backend: a hidden-state store, and stages run from slot to slot."""

from collections.abc import Sequence

import torch

from offramp.model.calibration import read
from offramp.model.checkpoint import Checkpoint
from offramp.model.packing import Layout, PackedTokens
from offramp.model.tokenizer import Tokens
from offramp.scheduler.backend import Batch
from offramp.scheduler.request import Reading, Request


class TorchBackend:
    """Runs the stages of one checkpoint; not thread-safe, so one thread owns it.

    The store is allocated once: for each slot the hidden states of up to `max_tokens` tokens, and
    the pooled vector of every layer run so far, which the heads' layer mixes read.
    """

    def __init__(self, checkpoint: Checkpoint, slots: int, device: torch.device) -> None:
        config = checkpoint.config
        size, tokens = config.encoder.hidden_size, config.max_tokens
        self._model = checkpoint.model
        self._temperatures = checkpoint.calibration.temperatures
        self._exit_layers = config.exit_layers
        self._device = device
        self.positions = 0
        """Token positions that the last step computed, padding included."""
        dtype = next(checkpoint.model.parameters()).dtype
        self._hidden = torch.zeros(slots * tokens, size, dtype=dtype, device=device)
        self._pooled = torch.zeros(slots, config.encoder.layers, size, dtype=dtype, device=device)
        self._places = torch.arange(slots * tokens, device=device).view(slots, tokens)

    @torch.inference_mode()
    def run(self, batch: Batch) -> Sequence[Reading]:
        """Run the batch's stage; readings come in the order of its requests."""
        order = sorted(range(len(batch.requests)), key=lambda i: batch.requests[i].tokens)
        requests = [batch.requests[i] for i in order]
        slots = torch.tensor([request.slot for request in requests], device=self._device)
        places = torch.cat([self._places[r.slot, : r.tokens] for r in requests])
        if batch.stage == 0:
            packed = PackedTokens.of([_tokens(request) for request in requests], self._device)
            layout, pooled = packed.layout, None
            hidden = self._model.encoder.embed(packed)
        else:
            layout = Layout.of([request.tokens for request in requests])
            hidden = self._hidden.index_select(0, places)
            pooled = self._pooled[slots, : self._exit_layers[batch.stage - 1]]
        self.positions = hidden.shape[0]
        output = self._model.run_stage(batch.stage, hidden, pooled, layout)
        if batch.stage + 1 < len(self._exit_layers):
            self._hidden.index_copy_(0, places, output.hidden)
            self._pooled[slots, : self._exit_layers[batch.stage]] = output.pooled
        readings = read(output.logits, self._temperatures[batch.stage])
        columns = (readings.labels, readings.confidences, readings.probabilities)
        labels, confidences, probabilities = (column.tolist() for column in columns)
        result: list[Reading | None] = [None] * len(order)
        for at, row in zip(
            order, zip(labels, confidences, probabilities, strict=True), strict=True
        ):
            result[at] = Reading(row[0], row[1], tuple(row[2]))
        return [reading for reading in result if reading is not None]


def _tokens(request: Request) -> Tokens:
    assert isinstance(request.payload, Tokens)
    return request.payload
