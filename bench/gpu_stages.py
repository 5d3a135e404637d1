"""What one GPU takes for a stage, and what the host adds to a step."""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from gpu_subjects import LENGTHS_SHORT, Limits, requests_of, rows

from offramp.model.checkpoint import Checkpoint
from offramp.model.graphs import GraphedSteps
from offramp.model.resident import ResidentStages
from offramp.model.tokenizer import Tokens
from offramp.scheduler.backend import Batch
from offramp.server.device import DeviceBackend

REPEATS = 50


def timed(run: Callable[[], object]) -> float:
    """Median seconds on the device."""
    for _ in range(5):
        run()
    times: list[float] = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def card_limits(device: torch.device) -> dict[str, float]:
    """What the card itself reaches."""
    left, right = torch.randn(2, 8192, 8192, device=device, dtype=torch.bfloat16).unbind()
    source = torch.empty(2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return {
        "bfloat16_tflops": 2 * 8192**3 / timed(lambda: left @ right) / 1e12,
        "copy_gb_per_second": 2 * 2**30 / timed(lambda: target.copy_(source)) / 1e9,
    }


def stages(
    checkpoint: Checkpoint,
    make: type[ResidentStages],
    device: torch.device,
    peak: float,
    dtype: torch.dtype = torch.bfloat16,
) -> dict[int, Any]:
    """Device time of full steps of stage 1 by tokens, and the share of the card's own rate."""
    config, limits = checkpoint.config, Limits()
    resident = make(checkpoint.model, checkpoint.calibration, limits.slots, dtype, device)
    steps = GraphedSteps(resident, limits.rows, limits.tokens, device)
    steps.capture()
    found: dict[int, Any] = {}
    size, wide = config.encoder.hidden_size, config.encoder.intermediate_size
    for target in STEP_TOKENS:
        tokens = step_of(target)
        lengths = [len(row) for row in tokens]
        count = sum(lengths)
        bucket = steps.bucket(len(tokens), count)
        inputs = steps.inputs(bucket)
        inputs.slots.fill_(limits.slots)
        inputs.lengths.zero_()
        inputs.slots[: len(tokens)] = torch.arange(len(tokens))
        inputs.lengths[: len(tokens)] = torch.tensor(lengths)
        layers = len(config.stage_layers(1))
        linear = 2 * count * (4 * size * size + 2 * size * wide)
        work = layers * (linear + 4 * size * sum(length**2 for length in lengths))
        steps.run(0, bucket)
        seconds = timed(partial(steps.run, 1, bucket))
        found[target] = {
            "tokens": count,
            "rows": len(tokens),
            "stage_ms": seconds * 1e3,
            "share_of_bfloat16_rate": work / seconds / 1e12 / peak,
        }
    return found


def host_overhead(backend: DeviceBackend, stages: dict[int, Any]) -> dict[int, Any]:
    """What the host adds to steps of those sizes, microseconds.

    `overhead` is how much longer a step alone takes than its graph: this is how long the card waits
    with one step in flight. `launch` is the host's own work before the card has the step, and
    `read` after its readings are there; with two steps in flight both happen while the card works.
    """
    found: dict[int, Any] = {}
    for target in stages:
        requests = requests_of(step_of(target))
        backend.run(Batch(0, requests, 0.0))
        batch = Batch(1, requests, 0.0)
        spans: list[tuple[float, ...]] = []
        for _ in range(REPEATS):
            torch.cuda.synchronize()
            begun = time.perf_counter()
            step = backend.launch(batch)
            launched = time.perf_counter()
            while not step.done():
                pass
            done = time.perf_counter()
            step.readings()
            spans.append((begun, launched, done, time.perf_counter()))
        found[target] = {
            "rows": len(requests),
            "overhead_us": _median(spans, 0, 3) * 1e6 - stages[target]["stage_ms"] * 1e3,
            "launch_us": _median(spans, 0, 1) * 1e6,
            "read_us": _median(spans, 2, 3) * 1e6,
        }
    return found


def _median(spans: Sequence[Sequence[float]], start: int, end: int) -> float:
    return statistics.median(span[end] - span[start] for span in spans)


STEP_TOKENS = (32, 256, 2048, 8192, 16_384)


def step_of(tokens: int) -> list[Tokens]:
    """Short rows of up to so many tokens together."""
    drawn = rows(max(1, tokens // 28), 1, LENGTHS_SHORT)
    while sum(map(len, drawn)) > tokens:
        drawn.pop()
    return drawn
