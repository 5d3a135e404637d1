"""What `bench/gpu.py` runs on a device: shapes, requests, equality, throughput of a whole engine.

Nothing here needs a GPU; the tests rehearse it on a CPU.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import torch

from offramp.model.calibration import Calibration
from offramp.model.checkpoint import Checkpoint
from offramp.model.config import Activation, EncoderConfig, ModelConfig, Pooling
from offramp.model.exits import MultiExitModel
from offramp.model.packing import PackedTokens
from offramp.model.readings import scaled_softmax
from offramp.model.runner import Precision
from offramp.model.tokenizer import TextTokenizer, Tokens
from offramp.scheduler.backend import Backend, Batch
from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.engine import Engine
from offramp.scheduler.policy import Adaptive
from offramp.scheduler.request import Answer, Request, Terms
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


TOLERANCES = {Precision.FLOAT32: 1e-4, Precision.BFLOAT16: 0.05, Precision.FLOAT16: 0.01}
"""Of probabilities, from those of the float32 module."""


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
    """Probabilities, labels and exits of all rows against the float32 module on the CPU."""
    checkpoint = make()
    temperatures = checkpoint.calibration.temperatures
    wanted: list[list[list[float]]] = []
    with torch.inference_mode():
        model = checkpoint.model.float()
        for row in tokens:
            logits = model(PackedTokens.of([row], torch.device("cpu")))
            stages = zip(logits, temperatures, strict=True)
            wanted.append([scaled_softmax(said, at)[0].tolist() for said, at in stages])
    found: dict[str, Any] = {"rows": len(tokens)}
    for precision, tolerance in TOLERANCES.items():
        backend = backend_of(make(), device, precision, Limits(64, 8192, 64))
        said = _said(backend, tokens, checkpoint.config.exits)
        differences = [
            abs(one - other)
            for rows in zip(said, wanted, strict=True)
            for stages in zip(*rows, strict=True)
            for one, other in zip(*stages, strict=True)
        ]
        found[precision.value] = {
            "largest_probability_difference": max(differences),
            "within_tolerance": max(differences) < tolerance,
            "labels_of_all_exits_as_module": _same(
                said, wanted, lambda row: [stage.index(max(stage)) for stage in row]
            ),
            "labels_at_full_depth_as_module": _same(
                said, wanted, lambda row: row[-1].index(max(row[-1]))
            ),
            "exits_as_module": _same(said, wanted, partial(_exit, checkpoint.calibration)),
        }
    return found


def _said(
    backend: DeviceBackend, tokens: Sequence[Tokens], exits: int, rows: int = 64
) -> list[list[Sequence[float]]]:
    """Probabilities of all stages of all rows."""
    said: list[list[Sequence[float]]] = []
    for at in range(0, len(tokens), rows):
        requests = requests_of(tokens[at : at + rows])
        steps = [backend.run(Batch(stage, requests, 0.0)) for stage in range(exits)]
        said += [[reading.probabilities for reading in row] for row in zip(*steps, strict=True)]
    return said


def _same(said: Sequence[Any], wanted: Sequence[Any], what: Callable[[Any], object]) -> float:
    return statistics.fmean(
        what(one) == what(other) for one, other in zip(said, wanted, strict=True)
    )


def _exit(calibration: Calibration, row: Sequence[Sequence[float]]) -> int:
    """The exit that a row leaves at by the default threshold."""
    for stage, probabilities in enumerate(row[:-1]):
        if calibration.rule.score(stage, probabilities) >= calibration.default_threshold:
            return stage
    return len(row) - 1


HELD = 3
"""Requests held at a time while throughput is measured, in full slot tables."""

ALONE = 100
"""Requests measured one at a time."""


async def throughput(
    exits: Sequence[int],
    backend: Backend,
    cost: CostModel,
    limits: Limits,
    tokens: Sequence[Tokens],
    *,
    early: bool,
) -> dict[str, float]:
    """Requests a second through scheduler and engine, the layers that they ran, and one alone.

    `exits` are the layers that have one; every request is told which of these it leaves at. Who is
    answered sends the next, so that as many are held until the last have been sent; what is
    answered before as many have been, or after that, does not count. Alone are the shorter half of
    the first 200, with the exits of the others.
    """
    settings = SchedulerConfig(
        stages=len(exits),
        slots=limits.slots,
        max_queue_requests=10**6,
        max_queue_tokens=10**9,
        max_batch_rows=limits.rows,
        max_batch_tokens=limits.tokens,
    )
    scheduler = Scheduler(settings, Adaptive(), cost)
    terms = [Terms(threshold=inf, min_exit=at, max_exit=at) for at in range(len(exits))]
    drawn = random.Random(0).choices(terms, EXIT_SHARES[: len(exits)], k=len(tokens))
    work = list(zip(tokens, drawn if early else [terms[-1]] * len(tokens), strict=True))
    with ThreadPoolExecutor(STEPS_IN_FLIGHT) as executor:
        engine = Engine(scheduler, backend, executor, steps_in_flight=STEPS_IN_FLIGHT)
        running = asyncio.create_task(engine.run())

        def submit(row: Tokens, leaves: Terms) -> asyncio.Future[Answer]:
            return engine.submit(row, len(row), leaves, time.monotonic())

        held = HELD * limits.slots
        if len(work) <= 2 * held:
            raise ValueError(f"{len(work)} requests are too few for {held} held at a time")
        depths: list[int] = []
        times: list[float] = []
        over = asyncio.Event()
        waiting = iter(work)

        def answered(answer: asyncio.Future[Answer]) -> None:
            depths.append(exits[answer.result().exit])
            times.append(time.perf_counter())
            follow()
            if len(depths) == len(work):
                over.set()

        def follow() -> None:
            if (following := next(waiting, None)) is not None:
                submit(*following).add_done_callback(answered)

        for _ in range(held):
            follow()
        await over.wait()
        alone: list[float] = []
        for one in sorted(work[: 2 * ALONE], key=lambda pair: len(pair[0]))[:ALONE]:
            begun = time.perf_counter()
            await submit(*one)
            alone.append(time.perf_counter() - begun)
        engine.stop()
        await running
    counted = slice(held, len(work) - held)
    return {
        "per_second": (len(times[counted]) - 1) / (times[counted][-1] - times[counted][0]),
        "mean_layers": statistics.fmean(depths),
        "one_in_flight_p50_ms": statistics.median(alone) * 1e3,
    }
