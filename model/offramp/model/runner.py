"""Who runs the stages of a model fast on one device; every runner equals the reference module.

`MultiExitModel` is the float32 reference, and what is trained. For serving, `runner_of` picks by
device and precision what was measured to be quickest there (docs/performance.md).
"""

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor

from offramp.model.exits import MultiExitModel
from offramp.model.packing import Layout, PackedTokens
from offramp.model.precision import Precision
from offramp.model.prepacked import PrepackedRunner, can_prepack
from offramp.model.projection import (
    Bfloat16Projection,
    Float32Projection,
    Int8Projection,
    Projection,
)


class StageRunner(Protocol):
    """Runs stages of one model, in several threads at a time.

    `dtype` is that of the hidden states and pooled vectors it takes and gives.
    """

    dtype: torch.dtype

    def embed(self, packed: PackedTokens) -> Tensor:
        """Hidden states before the first layer: `[tokens, hidden]`."""
        ...

    def run_layers(
        self, stage: int, hidden: Tensor, pooled: Tensor | None, layout: Layout
    ) -> tuple[Tensor, Tensor]:
        """Hidden states and pooled vectors after the layers of `stage`, as `MultiExitModel`'s."""
        ...

    def logits(self, stage: int, pooled: Tensor) -> Tensor:
        """Float32 `[rows, labels]` of the exit of `stage`, from the pooled vectors so far."""
        ...

    def positions(self, tokens: int) -> int:
        """Token positions that a step of `tokens` computes, with what it fills up."""
        ...

    def warm(self, tokens: int) -> Iterable[Callable[[], None]]:
        """Pieces of work that compile what steps of up to `tokens` tokens need, to be called once.

        Each takes about as long as a step, for whoever has others to serve in between.
        """
        ...


class ModuleRunner:
    """The reference module itself, where nothing faster is known."""

    def __init__(self, model: MultiExitModel, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._model = model.to(dtype)

    def embed(self, packed: PackedTokens) -> Tensor:
        """As `Encoder.embed`."""
        return self._model.encoder.embed(packed)

    def run_layers(
        self, stage: int, hidden: Tensor, pooled: Tensor | None, layout: Layout
    ) -> tuple[Tensor, Tensor]:
        """As `MultiExitModel.run_layers`."""
        return self._model.run_layers(stage, hidden, pooled, layout)

    def logits(self, stage: int, pooled: Tensor) -> Tensor:
        """As `MultiExitModel.logits`."""
        return self._model.logits(stage, pooled).float()

    def positions(self, tokens: int) -> int:
        """No more than the tokens."""
        return tokens

    def warm(self, tokens: int) -> Iterable[Callable[[], None]]:
        """Nothing to compile."""
        del tokens
        return ()


def runner_of(
    model: MultiExitModel, device: torch.device, precision: Precision = Precision.FLOAT32
) -> StageRunner:
    """The quickest runner for a model in evaluation mode; raises ValueError where there is none."""
    if device.type == "cpu" and precision is Precision.FLOAT16:
        raise ValueError("float16 is for GPUs; use float32, bfloat16 or int8")
    if device.type == "cpu" and can_prepack():
        projections: dict[Precision, type[Projection]] = {
            Precision.FLOAT32: Float32Projection,
            Precision.BFLOAT16: Bfloat16Projection,
            Precision.INT8: Int8Projection,
        }
        return PrepackedRunner(model, projections[precision])
    if precision is Precision.INT8:
        raise ValueError(f"int8 is not available on {device}; use float32 or bfloat16")
    return ModuleRunner(model, getattr(torch, precision.value))
