"""The scheduler's backend on a GPU: two small copies and one graph replay a step.

Several threads may call `run`, so that as many steps are in flight: one prepares and launches
while the others wait for their readings. Launches are taken in turns; the waiting holds no lock,
and neither does it hold the interpreter. A step's readings are copied to memory of its own right
behind it, in stream order, so the next one cannot overwrite them.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.model.checkpoint import Checkpoint
from offramp.model.graphs import EagerSteps, GraphedSteps
from offramp.model.resident import LABEL, PROBABILITIES, ResidentStages
from offramp.model.runner import Precision
from offramp.model.tokenizer import Tokens
from offramp.scheduler.backend import Batch
from offramp.scheduler.request import Reading

STEPS_IN_FLIGHT = 2
"""Steps that buffers are made for at the start; more get theirs when they first come."""


@dataclass(frozen=True, slots=True)
class _Buffers:
    """Host memory of one step: what goes up, `[2, tokens]` and `[2, rows]`, and what comes down."""

    tokens: Tensor
    rows: Tensor
    readings: Tensor


class DeviceBackend:
    """Runs the stages of one checkpoint where its weights, store and graphs reside.

    On a device that is no GPU it runs without graphs, as the tests do.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        slots: int,
        device: torch.device,
        *,
        max_rows: int,
        max_tokens: int,
        precision: Precision = Precision.BFLOAT16,
    ) -> None:
        if precision is Precision.INT8:
            raise ValueError(f"int8 is not available on {device}; use bfloat16, float16 or float32")
        config = checkpoint.config
        self._device, self._cuda = device, device.type == "cuda"
        dtype = getattr(torch, precision.value)
        temperatures = checkpoint.calibration.temperatures
        stages = ResidentStages(checkpoint.model, temperatures, slots, max_rows, dtype, device)
        most = max(max_tokens, config.max_tokens)
        self._steps = (GraphedSteps if self._cuda else EagerSteps)(stages, most, device)
        self._spare_slot, self._max_rows = slots, max_rows
        self._columns = PROBABILITIES + len(config.labels)
        self._free = [self._buffers() for _ in range(STEPS_IN_FLIGHT)]
        self._turn = threading.Lock()
        self._rule = checkpoint.calibration.rule
        self.padding = 0
        """Token positions computed so far beyond the tokens of the requests."""

    def warm(self, tokens: int) -> None:
        """Capture all graphs."""
        del tokens  # the buckets were chosen for the most there can be
        if isinstance(self._steps, GraphedSteps):
            self._steps.capture()

    @torch.inference_mode()
    def run(self, batch: Batch) -> Sequence[Reading]:
        """Run the batch's stage; readings come in the order of its requests."""
        with self._turn:
            buffers = self._free.pop() if self._free else self._buffers()
        try:
            with self._turn:
                done = self._launch(batch, buffers)
            if done is not None:
                done.synchronize()
            rows = buffers.readings[: len(batch.requests)].tolist()
        finally:
            self._free.append(buffers)
        return [
            Reading(
                label=int(row[LABEL]),
                score=self._rule.score(batch.stage, row[PROBABILITIES:]),
                probabilities=tuple(row[PROBABILITIES:]),
            )
            for row in rows
        ]

    def _launch(self, batch: Batch, buffers: _Buffers) -> torch.cuda.Event | None:
        requests, tokens = batch.requests, batch.tokens
        if len(requests) > self._max_rows:
            raise ValueError(f"{len(requests)} rows are more than the {self._max_rows} of a step")
        inputs = self._steps.inputs(tokens)
        self.padding += len(inputs.ids) - tokens
        buffers.rows[0].fill_(self._spare_slot)
        buffers.rows[1].zero_()
        slots = torch.tensor([request.slot for request in requests])
        lengths = torch.tensor([request.tokens for request in requests])
        buffers.rows[0, : len(requests)] = slots
        buffers.rows[1, : len(requests)] = lengths
        inputs.slots.copy_(buffers.rows[0], non_blocking=True)
        inputs.lengths.copy_(buffers.rows[1], non_blocking=True)
        if batch.stage == 0:
            payloads = [r.payload for r in requests if isinstance(r.payload, Tokens)]
            ids, types = buffers.tokens[0, :tokens], buffers.tokens[1, :tokens]
            ids.copy_(torch.tensor([i for payload in payloads for i in payload.ids]))
            types.copy_(torch.tensor([t for payload in payloads for t in payload.types]))
            inputs.ids[:tokens].copy_(ids, non_blocking=True)
            inputs.types[:tokens].copy_(types, non_blocking=True)
        buffers.readings.copy_(self._steps.run(batch.stage, tokens), non_blocking=True)
        if not self._cuda:
            return None
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()
        return done

    def _buffers(self) -> _Buffers:
        tokens, rows = self._steps.buckets[-1], self._max_rows
        return _Buffers(
            torch.zeros(2, tokens, dtype=torch.int64, pin_memory=self._cuda),
            torch.zeros(2, rows, dtype=torch.int64, pin_memory=self._cuda),
            torch.zeros(rows, self._columns, pin_memory=self._cuda),
        )
