"""What `bench/gpu.py` runs on a device: shapes, checkpoints and requests; nothing needs a GPU."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch
from tokenizers import Tokenizer, models

from offramp.model.calibration import Calibration
from offramp.model.checkpoint import Checkpoint
from offramp.model.config import Activation, EncoderConfig, ModelConfig, Pooling
from offramp.model.exits import MultiExitModel
from offramp.model.precision import Precision
from offramp.model.tokenizer import TextTokenizer, Tokens
from offramp.scheduler.request import Request, Terms
from offramp.server.device import DeviceBackend

LENGTHS_SHORT = (8, 48)
LENGTHS_LONG = (128, 256)

DIFFERENT = 2000
"""Different rows among the requests of a run."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one backend: rows and tokens of a step, slots of the store."""

    rows: int = 1024
    tokens: int = 16_384
    slots: int = 4096


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
    """Random weights of a shape."""
    return checkpoint_of(name, shape(*SHAPES[name]))


def checkpoint_of(name: str, config: ModelConfig) -> Checkpoint:
    """Random weights; the tokenizer is never asked."""
    torch.manual_seed(0)
    model = MultiExitModel(config).eval().requires_grad_(requires_grad=False)
    nothing = Tokenizer(models.BPE())
    tokenizer = TextTokenizer(nothing.to_str(), config.max_tokens)
    return Checkpoint(name, config, model, tokenizer, Calibration.none(config.exits))


def rows(count: int, seed: int, *ranges: tuple[int, int]) -> list[Tokens]:
    """Random token ids with lengths drawn from each range in turn."""
    draw = random.Random(seed)
    lengths = [draw.randint(*ranges[index % len(ranges)]) for index in range(count)]
    return [Tokens.of(draw.choices(range(1000, 30_000), k=n)) for n in lengths]


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
    for piece in backend.warm(limits.tokens):
        piece()
    return backend


def requests_of(tokens: Sequence[Tokens]) -> tuple[Request, ...]:
    """Requests in slots of their own."""
    terms = Terms(threshold=inf, min_exit=0, max_exit=0)
    return tuple(
        Request(row, len(row), terms, 0.0, deliver=lambda _: None, slot=slot)
        for slot, row in enumerate(tokens)
    )
