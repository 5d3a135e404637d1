"""What one process schedules for a GPU, without one: the device is a clock.

    python bench/gpu_host.py --json bench/results/gpu_host.json

Scheduler, engine and backend are those that serve; a step is through when those before it are and
its own milliseconds have passed, which `bench/gpu.py` measured on a card (`results/gpu.json`), and
what it read is always the same. So this is the host's part alone, and how well it keeps a card
busy; it is to be compared with itself on the same machine.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("model", "scheduler", "server", "cli", "bench")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from gpu_engine import at_full_depth, at_recorded_exits, engine_rounds, summary  # noqa: E402
from gpu_subjects import (  # noqa: E402
    DIFFERENT,
    LENGTHS_LONG,
    LENGTHS_SHORT,
    SHAPES,
    Limits,
    checkpoint_of,
    rows,
    shape,
)

from offramp.cli.load.circumstances import circumstances, yardstick  # noqa: E402
from offramp.model.graphs import EagerSteps  # noqa: E402
from offramp.model.precision import Precision  # noqa: E402
from offramp.model.resident import PROBABILITIES, ResidentStages, rows_of  # noqa: E402
from offramp.server.device import DeviceBackend  # noqa: E402
from offramp.server.garbage import settle  # noqa: E402

CPU = torch.device("cpu")
MEASURED = ROOT / "bench" / "results" / "gpu.json"

TINY = shape(16, 12, 1)
"""Of what is resident; nothing is computed."""


class Clock:
    """When the device is through with all that was launched, in seconds of `perf_counter`."""

    def __init__(self) -> None:
        self.through = 0.0

    def runs(self, seconds: float) -> None:
        """Launch a step that takes so long."""
        self.through = max(self.through, time.perf_counter()) + seconds


class Passed:
    """As an event of CUDA's: passed when what was launched before it is through."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at = 0.0

    def record(self) -> None:
        """Stand behind what was launched so far."""
        self._at = self._clock.through

    def query(self) -> bool:
        """Whether it has passed."""
        return time.perf_counter() >= self._at

    def synchronize(self) -> None:
        """Wait for it."""
        while not self.query():
            pass


class ClockSteps(EagerSteps):
    """Steps that take `seconds` for their bucket, and read what `said` says."""

    def __init__(
        self, stages: ResidentStages, limits: Limits, clock: Clock, seconds: Callable[[int], float]
    ) -> None:
        super().__init__(stages, limits.rows, limits.tokens, CPU)
        self._clock, self._seconds = clock, seconds
        columns = PROBABILITIES + len(stages.config.labels)
        self._said = torch.rand(rows_of(self.buckets[-1]), columns)

    def run(self, stage: int, bucket: int) -> torch.Tensor:
        """Let the clock run."""
        del stage
        self._clock.runs(self._seconds(bucket))
        return self._said[: rows_of(bucket)]


class ClockBackend(DeviceBackend):
    """A backend whose device takes `seconds` for a bucket, and does nothing else."""

    def __init__(self, limits: Limits, seconds: Callable[[int], float]) -> None:
        self._clock = Clock()
        checkpoint = checkpoint_of("none", TINY)
        super().__init__(
            checkpoint,
            limits.slots,
            CPU,
            max_rows=limits.rows,
            max_tokens=limits.tokens,
            precision=Precision.FLOAT32,
        )
        model, calibration = checkpoint.model, checkpoint.calibration
        stages = ResidentStages(model, calibration, 1, torch.float32, CPU)
        self._steps = ClockSteps(stages, limits, self._clock, seconds)

    def _buffers(self) -> Any:  # noqa: ANN401 - the backend's own
        made = super()._buffers()
        made.done = Passed(self._clock)  # type: ignore[assignment]
        return made


def seconds_of(name: str) -> Callable[[int], float]:
    """A stage of a shape by its bucket, between the sizes that were measured."""
    measured = json.loads(MEASURED.read_text())[name]["stages"].values()
    tokens, times = zip(*((one["tokens"], one["stage_ms"] / 1e3) for one in measured), strict=True)
    return lambda bucket: float(np.interp(bucket, tokens, times))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Measure the host's part without a GPU.")
    parser.add_argument("--requests", type=int, default=60_000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    kinds = {
        "short": rows(DIFFERENT, 4, LENGTHS_SHORT),
        "mixed": rows(DIFFERENT, 2, LENGTHS_SHORT, LENGTHS_LONG),
    }
    settle()
    record: dict[str, Any] = circumstances() | {"yardstick_gflops": yardstick()}
    for name in SHAPES:
        backend = ClockBackend(Limits(), seconds_of(name))
        for kind, tokens in kinds.items():
            many = list(islice(cycle(tokens), args.requests))
            works = [make(many, TINY.exits) for make in (at_full_depth, at_recorded_exits)]
            rounds = engine_rounds(TINY.exit_layers, backend, *works)
            record.setdefault(name, {})[kind] = summary(rounds)
            print(name, kind, json.dumps(record[name][kind]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
