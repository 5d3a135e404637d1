"""The scheduler's backend on a GPU: one small copy up, one graph, one small copy down a step.

Steps are launched by one thread at a time and run in that order on the device. Each is told in
memory of its own, and its readings are copied to memory of its own right behind it, so that several
can be in flight and none overwrites another's.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from offramp.model.checkpoint import Checkpoint
from offramp.model.device_stages import stages_of
from offramp.model.graphs import EagerSteps, GraphedSteps, length_of
from offramp.model.packing import end_to_end, types_of
from offramp.model.precision import Precision
from offramp.model.resident import PROBABILITIES, TOKENS_A_ROW, rows_of, token_buckets
from offramp.model.rules import RuleKind
from offramp.model.tokenizer import Tokens
from offramp.scheduler.backend import Batch
from offramp.scheduler.reading import Reading
from offramp.scheduler.request import Request
from offramp.server.device_step import LaunchedStep, Numbers, StepMemory

STEPS_IN_FLIGHT = 2
"""Steps that buffers are made for at the start; more get theirs when they first come."""

OLDEST_CARD = (8, 0)
"""Compute capability that variable-length attention needs in half precision."""

MOST_NUMBERS = 2**31 - 1
"""Queries, keys and values of a step: kernels count where they lie in 32 bits."""


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
        if (kind := checkpoint.calibration.rule.kind) is not RuleKind.MAX_PROB:
            raise ValueError(f"scores are made on {device} for the rule max_prob alone, not {kind}")
        if device.type == "cuda" and precision is not Precision.FLOAT32:
            _check_card(device, precision)
        config = checkpoint.config
        most = max(max_tokens, config.max_tokens)
        largest = token_buckets(max(most, max_rows * TOKENS_A_ROW))[-1]
        if (numbers := largest * 3 * config.encoder.hidden_size) > MOST_NUMBERS:
            raise ValueError(
                f"steps of up to {max_tokens} tokens and {max_rows} rows are too large for this"
                f" model: {numbers} numbers where {MOST_NUMBERS} can be counted; allow fewer"
            )
        self._device, self._cuda = device, device.type == "cuda"
        dtype = getattr(torch, precision.value)
        self._spare_slot, self._max_rows = slots, max_rows
        self._columns = PROBABILITIES + len(config.labels)
        steps = GraphedSteps if self._cuda else EagerSteps
        with self._current():
            make = stages_of(checkpoint, dtype, device)
            stages = make(checkpoint.model, checkpoint.calibration, slots, dtype, device)
            self._steps = steps(stages, max_rows, most, device)
            self._free = [self._buffers() for _ in range(STEPS_IN_FLIGHT)]
        self.padding = 0
        """Token positions computed so far beyond the tokens of the requests."""

    def warm(self, tokens: int) -> Iterable[Callable[[], None]]:
        """A piece of work that captures all graphs: steps that are launched do not wait for it."""
        del tokens  # the buckets were chosen for the most there can be
        return (self._capture,)

    def _capture(self) -> None:
        if isinstance(self._steps, GraphedSteps):
            with self._current():
                self._steps.capture()

    def run(self, batch: Batch) -> Sequence[Reading]:
        """Run the batch's stage; readings come in the order of its requests."""
        return self.launch(batch).readings()

    def launch(self, batch: Batch) -> LaunchedStep:
        """Send the step to the device; whoever holds what comes back reads it once."""
        with self._current():
            buffers = self._free.pop() if self._free else self._buffers()
            try:
                self._launch(batch, buffers)
            except BaseException:
                self._free.append(buffers)
                raise
        return LaunchedStep(batch, buffers, self._free)

    def _launch(self, batch: Batch, buffers: StepMemory) -> None:
        requests, tokens = batch.requests, batch.tokens
        if len(requests) > self._max_rows:
            raise ValueError(f"{len(requests)} rows are more than the {self._max_rows} of a step")
        bucket = self._steps.bucket(len(requests), tokens)
        self.padding += bucket - tokens
        buffers.send(self._tell(batch, bucket, buffers.numbers), self._steps.told)
        buffers.fetch(self._steps.run(batch.stage, bucket))

    def _tell(self, batch: Batch, bucket: int, numbers: Numbers) -> int:
        """Write what the step is told, all of it; how many numbers that is."""
        requests, rows, most = batch.requests, len(batch.requests), rows_of(bucket)
        numbers[:rows] = [request.slot for request in requests]
        numbers[rows:most] = self._spare_slot
        numbers[most : most + rows] = batch.lengths
        numbers[most + rows : 2 * most] = 0
        if batch.stage:
            return 2 * most
        payloads = [_tokens(request) for request in requests]
        ids, types = numbers[2 * most :][:bucket], numbers[2 * most + bucket :][:bucket]
        _lay_out(ids, [row.ids for row in payloads])
        _lay_out(types, types_of(payloads))
        return length_of(bucket)

    def _current(self) -> AbstractContextManager[object]:
        """Make the GPU the thread's current one: events, graphs and Triton take that."""
        return torch.cuda.device(self._device) if self._cuda else nullcontext()

    def _buffers(self) -> StepMemory:
        return StepMemory(self._steps.buckets[-1], self._columns, cuda=self._cuda)


def _check_card(device: torch.device, precision: Precision) -> None:
    """Raise ValueError of a card that is older than the attention kernels."""
    if (found := torch.cuda.get_device_capability(device)) < OLDEST_CARD:
        raise ValueError(
            f"{precision.value} needs a card of compute capability"
            f" {'.'.join(map(str, OLDEST_CARD))} or newer, {device} has"
            f" {'.'.join(map(str, found))}; use float32"
        )


def _tokens(request: Request) -> Tokens:
    if not isinstance(request.payload, Tokens):
        raise TypeError(f"a request's payload must be Tokens, not {type(request.payload).__name__}")
    return request.payload


def _lay_out(numbers: Numbers, rows: Sequence["array[int]"]) -> None:
    """Write rows end to end, and zeros behind them."""
    together = end_to_end(rows)
    numbers[: len(together)] = together
    numbers[len(together) :] = 0
