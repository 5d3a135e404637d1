"""A step on a device: the host's memory of it, and its readings once they are there."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from offramp.model.graphs import length_of
from offramp.model.resident import LABEL, PROBABILITIES, SCORE, rows_of
from offramp.scheduler.backend import Batch
from offramp.scheduler.reading import Reading, StepReadings

Numbers = np.ndarray[tuple[int], np.dtype[np.int32]]
Table = np.ndarray[tuple[int, int], np.dtype[np.float32]]


class StepMemory:
    """Host memory of one step: what goes up and what comes down, and when it is there."""

    def __init__(self, bucket: int, columns: int, *, cuda: bool) -> None:
        self._told = torch.zeros(length_of(bucket), dtype=torch.int32, pin_memory=cuda)
        self._readings = torch.zeros(rows_of(bucket), columns, pin_memory=cuda)
        self.numbers = self._told.numpy()
        self.table = self._readings.numpy()
        self.done = torch.cuda.Event() if cuda else None  # type: ignore[no-untyped-call]
        self._ways_up: dict[int, tuple[Tensor, Tensor]] = {}
        self._ways_down: dict[int, Tensor] = {}

    def send(self, count: int, target: Tensor) -> None:
        """Start to copy so many numbers to the device."""
        way = self._ways_up.get(count)
        if way is None:
            way = self._ways_up[count] = (target[:count], self._told[:count])
        way[0].copy_(way[1], non_blocking=True)

    def fetch(self, readings: Tensor) -> None:
        """Start to copy readings from the device, behind the step that makes them."""
        rows = len(readings)
        way = self._ways_down.get(rows)
        if way is None:
            way = self._ways_down[rows] = self._readings[:rows]
        way.copy_(readings, non_blocking=True)
        if self.done is not None:
            self.done.record()


class LaunchedStep:
    """A step on its way, and the memory that it reads into."""

    def __init__(self, batch: Batch, buffers: StepMemory, free: list[StepMemory]) -> None:
        self._batch = batch
        self._buffers = buffers
        self._free = free

    def done(self) -> bool:
        """Whether the readings are there; raises nothing, `readings` does."""
        done = self._buffers.done
        try:
            return done is None or bool(done.query())  # type: ignore[no-untyped-call]
        except RuntimeError:
            return True

    def readings(self) -> Sequence[Reading]:
        """Wait for the readings, `[rows]`; raises RuntimeError if the device failed."""
        buffers = self._buffers
        try:
            if buffers.done is not None:
                buffers.done.synchronize()
            batch = self._batch
            return _readings_of(buffers.table[: len(batch.requests)]) if batch.reads else []
        finally:
            self._free.append(buffers)


def _readings_of(table: Table) -> StepReadings:
    """A step's readings, from its columns."""
    labels = table[:, LABEL].astype(np.int64).tolist()
    scores = table[:, SCORE].tolist()
    probabilities = list(zip(*table[:, PROBABILITIES:].T.tolist(), strict=True))
    return StepReadings(labels, scores, probabilities)
