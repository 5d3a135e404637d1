"""Every fast runner says what the float32 reference module says."""

import os
import random
import subprocess
import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from offramp.model.config import Activation, EncoderConfig, ModelConfig, Pooling
from offramp.model.exits import MultiExitModel
from offramp.model.packing import Layout, PackedTokens
from offramp.model.precision import Precision
from offramp.model.prepacked import token_bucket
from offramp.model.runner import ModuleRunner, StageRunner, runner_of
from offramp.model.tokenizer import Tokens

CPU = torch.device("cpu")
SHAPE = EncoderConfig(
    family="bert",
    vocab_size=100,
    embedding_size=32,
    hidden_size=32,
    intermediate_size=64,
    layers=4,
    heads=4,
    positions=80,
    position_offset=0,
    token_types=2,
    activation=Activation.GELU,
    layer_norm_eps=1e-12,
)
CONFIG = ModelConfig(
    encoder=SHAPE,
    labels=("a", "b", "c"),
    exit_layers=(1, 2, 4),
    pooling=Pooling.MEAN,
    max_tokens=80,
)
VARIANTS = [
    CONFIG,
    replace(CONFIG, pooling=Pooling.CLS),
    replace(CONFIG, pooling=Pooling.ATTENTION),
    replace(CONFIG, encoder=replace(SHAPE, position_offset=2, positions=82, token_types=0)),
    replace(CONFIG, encoder=replace(SHAPE, token_types=1)),
    *(
        replace(CONFIG, encoder=replace(SHAPE, activation=activation, embedding_size=16))
        for activation in (Activation.GELU_NEW, Activation.RELU, Activation.SILU)
    ),
]


@pytest.fixture(autouse=True)
def threads(request: pytest.FixtureRequest) -> Generator[None]:
    """Let torch use so many threads, one if none are told."""
    before = torch.get_num_threads()
    torch.set_num_threads(getattr(request, "param", 1))
    yield
    torch.set_num_threads(before)


def model_of(config: ModelConfig) -> MultiExitModel:
    torch.manual_seed(0)
    model = MultiExitModel(config).eval().requires_grad_(requires_grad=False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def packed_rows(lengths: tuple[int, ...], types: int = 1) -> PackedTokens:
    draw = random.Random(0)
    rows = [
        Tokens.of(draw.choices(range(100), k=n), sorted(draw.choices(range(types), k=n)))
        for n in lengths
    ]
    return PackedTokens.of(rows, CPU)


def logits_of(runner: StageRunner, packed: PackedTokens) -> list[torch.Tensor]:
    hidden, pooled = runner.embed(packed), None
    logits: list[torch.Tensor] = []
    for stage in range(CONFIG.exits):
        hidden, pooled = runner.run_layers(stage, hidden, pooled, packed.layout)
        assert hidden.shape == (packed.layout.tokens, 32)
        logits.append(runner.logits(stage, pooled))
    return logits


@pytest.mark.parametrize("config", VARIANTS)
@pytest.mark.parametrize(
    "lengths", [(1,), (26,), (3, 3, 7), (3, 20, 20), (21, 40, 64), (5, 5, 9, 33, 33, 70)]
)
@pytest.mark.parametrize("threads", [1, 2], indirect=True)
@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("pairs", [False, True])
@torch.inference_mode()
def test_float32_equals_the_reference(
    config: ModelConfig, lengths: tuple[int, ...], *, halved: bool, pairs: bool
) -> None:
    """Also of weights that half precision holds, which few tokens are multiplied with."""
    model = model_of(config)
    if halved:
        model = model.half().float()
    packed = packed_rows(lengths, max(1, config.encoder.token_types) if pairs else 1)
    for got, wanted in zip(logits_of(runner_of(model, CPU), packed), model(packed), strict=True):
        torch.testing.assert_close(got, wanted, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("precision", [Precision.BFLOAT16, Precision.INT8])
@torch.inference_mode()
def test_lower_precision_is_near(precision: Precision) -> None:
    model, packed = model_of(CONFIG), packed_rows((5, 5, 9, 33, 33, 70))
    runner = runner_of(model, CPU, precision)
    for got, wanted in zip(logits_of(runner, packed), model(packed), strict=True):
        error = (got.float() - wanted).norm() / wanted.norm()
        assert 0 < error < 0.1


@torch.inference_mode()
def test_the_module_itself_is_a_runner() -> None:
    model, packed = model_of(CONFIG), packed_rows((4, 9))
    wanted = model(packed)
    for got, expected in zip(
        logits_of(ModuleRunner(model, torch.float32), packed), wanted, strict=True
    ):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("lengths", [(7, 12, 12, 60), (30, 30, 60)])
@pytest.mark.parametrize("halved", [False, True])
@torch.inference_mode()
def test_a_row_says_the_same_alone_and_in_a_crowd(
    lengths: tuple[int, ...], *, halved: bool
) -> None:
    model = model_of(CONFIG)
    runner = runner_of(model.half().float() if halved else model, CPU)
    crowd, length = packed_rows(lengths), lengths[0]
    ids, types, layout = crowd.ids[:length], crowd.types[:length], Layout.of([length])
    alone = PackedTokens(ids, types, layout, crowd.paired)
    for together, single in zip(logits_of(runner, crowd), logits_of(runner, alone), strict=True):
        torch.testing.assert_close(together[:1], single, atol=2e-5, rtol=1e-4)


def test_a_precision_is_refused_where_it_does_not_exist() -> None:
    with pytest.raises(ValueError, match="int8 is not available on meta"):
        runner_of(model_of(CONFIG), torch.device("meta"), Precision.INT8)
    with pytest.raises(ValueError, match="float16 is for GPUs"):
        runner_of(model_of(CONFIG), CPU, Precision.FLOAT16)


def test_buckets_hold_what_they_are_for() -> None:
    buckets = {token_bucket(tokens) for tokens in range(1, 513)}
    assert all(tokens <= token_bucket(tokens) < tokens + 8 for tokens in range(1, 513))
    assert len(buckets) == 64 + 56
    large = range(513, 8193)
    assert all(tokens <= token_bucket(tokens) < tokens * 33 / 32 for tokens in large)
    assert len({token_bucket(tokens) for tokens in large}) == 4 * 32


REWARMED = """
import torch
from test_runner import CONFIG, CPU, SHAPE, Precision, model_of, replace, runner_of

torch.set_num_threads(1)
wider = replace(CONFIG, encoder=replace(SHAPE, hidden_size=48, embedding_size=48))
runners = [runner_of(model_of(one), CPU, Precision.BFLOAT16) for one in (CONFIG, wider)]
for runner in [*runners, runners[0]]:
    print("warm", flush=True)
    for piece in runner.warm(1024):
        piece()
"""


def test_what_was_warmed_up_is_not_compiled_again() -> None:
    """Two models take 1216 kernels, more than oneDNN keeps unless it is told to."""
    environment = {**os.environ, "ONEDNN_VERBOSE": "2", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", REWARMED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    before, again = done.stdout.rsplit("warm\n", 1)
    assert before.count("create:cache_miss") > 1024
    assert "create:cache_hit" in again
    assert "create:cache_miss" not in again
