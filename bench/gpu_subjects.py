"""What `bench/gpu.py` runs on a device: shapes, requests, equality, throughput of a whole engine.

Nothing here needs a GPU; the tests rehearse it on a CPU.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import torch

from offramp.model.calibration import Calibration
from offramp.model.checkpoint import Checkpoint
from offramp.model.config import Activation, EncoderConfig, ModelConfig, Pooling
from offramp.model.exits import MultiExitModel
from offramp.model.packing import PackedTokens
from offramp.model.runner import Precision
from offramp.model.tokenizer import TextTokenizer, Tokens
from offramp.scheduler.backend import Batch
from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.engine import Engine
from offramp.scheduler.policy import Adaptive
from offramp.scheduler.request import Answer, Reading, Request, Terms
from offramp.scheduler.scheduler import Scheduler
from offramp.server.device import STEPS_IN_FLIGHT, DeviceBackend

EXIT_SHARES = (0.465, 0.094, 0.113, 0.115, 0.032, 0.181)
"""Share of requests that left at each of six exits, recorded of a trained SST-2 checkpoint."""

LENGTHS_SHORT = (8, 48)
LENGTHS_LONG = (128, 256)


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one backend: rows and tokens of a step, slots of the store."""

    rows: int = 1024
    tokens: int = 16_384
    slots: int = 4096


TOLERANCE = 0.05


def shape(size: int, layers: int, heads: int) -> ModelConfig:
    """A BERT with six exits at equal distances."""
    encoder = EncoderConfig(
        family="bert",
        vocab_size=30_522,
        embedding_size=size,
        hidden_size=size,
        intermediate_size=4 * size,
        layers=layers,
        heads=heads,
        positions=512,
        position_offset=0,
        token_types=2,
        activation=Activation.GELU,
        layer_norm_eps=1e-12,
    )
    exits = tuple(range(layers // 6, layers + 1, layers // 6))
    return ModelConfig(encoder, ("negative", "positive"), exits, Pooling.MEAN, max_tokens=256)


SHAPES = {"BERT-base": (768, 12, 12), "BERT-large": (1024, 24, 16)}


def random_checkpoint(name: str) -> Checkpoint:
    """Random weights of a shape; the tokenizer is never asked."""
    torch.manual_seed(0)
    config = shape(*SHAPES[name])
    model = MultiExitModel(config).eval().requires_grad_(requires_grad=False)
    tokenizer = TextTokenizer("{}", config.max_tokens)
    return Checkpoint(name, config, model, tokenizer, Calibration.none(config.exits))


def rows(count: int, seed: int, *ranges: tuple[int, int]) -> list[Tokens]:
    """Random token ids with lengths drawn from each range in turn."""
    draw = random.Random(seed)
    lengths = [draw.randint(*ranges[index % len(ranges)]) for index in range(count)]
    return [
        Tokens(tuple(draw.choices(range(1000, 30_000), k=n)), (0,) * n, truncated=False)
        for n in lengths
    ]


def backend_of(
    checkpoint: Checkpoint, device: torch.device, precision: Precision, limits: Limits
) -> DeviceBackend:
    """A warm backend."""
    backend = DeviceBackend(
        checkpoint,
        limits.slots,
        device,
        max_rows=limits.rows,
        max_tokens=limits.tokens,
        precision=precision,
    )
    backend.warm(limits.tokens)
    return backend


def requests_of(tokens: Sequence[Tokens]) -> tuple[Request, ...]:
    """Requests in slots of their own."""
    terms = Terms(threshold=inf, min_exit=0, max_exit=0)
    return tuple(
        Request(row, len(row), terms, 0.0, deliver=lambda _: None, slot=slot)
        for slot, row in enumerate(tokens)
    )


def equality(
    make: Callable[[], Checkpoint], device: torch.device, tokens: Sequence[Tokens]
) -> dict[str, Any]:
    """Labels and probabilities of all stages against the float32 module on the CPU."""
    reference = make().model.float()
    with torch.inference_mode():
        packed = [PackedTokens.of([row], torch.device("cpu")) for row in tokens]
        wanted = [[stage.softmax(-1)[0] for stage in reference(row)] for row in packed]
    found: dict[str, Any] = {"sentences": len(tokens)}
    for precision in (Precision.FLOAT32, Precision.BFLOAT16, Precision.FLOAT16):
        checkpoint = make()
        plain = replace(checkpoint.calibration, temperatures=(1.0,) * checkpoint.config.exits)
        backend = backend_of(
            checkpoint.with_calibration(plain), device, precision, Limits(8, 2048, 8)
        )
        difference, same = 0.0, 0
        for at in range(0, len(tokens), 8):
            batch = requests_of(tokens[at : at + 8])
            for stage in range(checkpoint.config.exits):
                for row, reading in enumerate(backend.run(Batch(stage, batch, 0.0))):
                    expected = wanted[at + row][stage]
                    same += reading.label == int(expected.argmax())
                    gap = (torch.tensor(reading.probabilities) - expected).abs().max()
                    difference = max(difference, float(gap))
        found[precision.value] = {
            "largest_probability_difference": difference,
            "labels_as_module": same / len(tokens) / checkpoint.config.exits,
            "within_tolerance": difference < TOLERANCE,
        }
    return found


class RecordedExits:
    """A backend whose confidences say what each request's recorded exit asks for."""

    def __init__(self, backend: DeviceBackend, exits: int) -> None:
        self._backend = backend
        self._draw = random.Random(0)
        self._exits = exits

    def exit_of(self) -> int:
        """An exit drawn by the recorded shares; with six exits these are theirs."""
        return self._draw.choices(range(self._exits), EXIT_SHARES[: self._exits])[0]

    def run(self, batch: Batch) -> Sequence[Reading]:
        """Compute the step, then read what was recorded."""
        readings = self._backend.run(batch)
        return [
            replace(reading, score=1.0 if request.context == batch.stage else 0.0)
            for request, reading in zip(batch.requests, readings, strict=True)
        ]


async def throughput(
    checkpoint: Checkpoint,
    backend: DeviceBackend,
    limits: Limits,
    tokens: Sequence[Tokens],
    *,
    early: bool,
) -> dict[str, float]:
    """Requests a second through scheduler and engine, the layers that they ran, and one alone.

    Alone are the shorter half of the first 200, with the exits of the others.
    """
    config = checkpoint.config
    settings = SchedulerConfig(
        stages=config.exits,
        slots=limits.slots,
        max_queue_requests=10**6,
        max_queue_tokens=10**9,
        max_batch_rows=limits.rows,
        max_batch_tokens=limits.tokens,
    )
    recorded = RecordedExits(backend, config.exits)
    scheduler = Scheduler(settings, Adaptive(), CostModel(config.exits))
    terms = Terms(threshold=0.5, min_exit=0, max_exit=config.exits - 1)
    with ThreadPoolExecutor(STEPS_IN_FLIGHT) as executor:
        engine = Engine(scheduler, recorded, executor, steps_in_flight=STEPS_IN_FLIGHT)
        running = asyncio.create_task(engine.run())
        started = time.perf_counter()

        def submit(row: Tokens) -> asyncio.Future[Answer]:
            leaves = recorded.exit_of() if early else config.exits - 1
            return engine.submit(row, len(row), terms, time.monotonic(), context=leaves)

        answers = await asyncio.gather(*map(submit, tokens))
        seconds = time.perf_counter() - started
        alone: list[float] = []
        for row in sorted(tokens[:200], key=len)[: len(tokens[:200]) // 2]:
            begun = time.perf_counter()
            await submit(row)
            alone.append(time.perf_counter() - begun)
        engine.stop()
        await running
    layers = statistics.fmean(config.exit_layers[answer.exit] for answer in answers)
    return {
        "per_second": len(tokens) / seconds,
        "mean_layers": layers,
        "one_in_flight_p50_ms": statistics.median(alone) * 1e3,
    }
