"""Resident stages in few kernels: cuBLAS multiplies, Triton does the rest.

PyTorch's variable-length attention works on blocks of 128 queries, which short texts leave mostly
empty; its sums, norms and pooling each write what the next reads again, and where the tokens lie is
worked out by a dozen kernels. In `offramp.model.kernels` all of this is one kernel each, in the
order: places, embeddings (or a gather), and for each layer attention, norm, norm and pooling
between four products; the last norm of a stage writes into the store. docs/performance.md has what
each of them saves.
"""

from math import e, log2, sqrt
from typing import Any

import torch
from torch import Tensor

import offramp.model.kernels as triton_kernels
from offramp.model.calibration import Calibration
from offramp.model.config import Activation, ModelConfig, Pooling
from offramp.model.encoder import EncoderLayer
from offramp.model.exits import ExitHead, MultiExitModel
from offramp.model.projection import activate
from offramp.model.readings import HIGHEST_CONFIDENCE
from offramp.model.resident import FLASH_TYPES, PROBABILITIES, ResidentStages, StepInputs

kernels: Any = triton_kernels
"""Launched as `kernel[grid](arguments)`, which Python's types don't know."""

TILE = 64
"""Queries, and keys, that attention takes at a time."""

PROGRAMS = 1024
"""Attention programs that fill a card: fewer are split among parts of their rows."""

SMALLEST_DOT = 16
"""Triton multiplies nothing narrower."""

POOLED_TOKENS, POOLED_COLUMNS, POOLING_WARPS = 32, 128, 2
ATTENDED_TOKENS = 8
READ_NUMBERS = 4096
"""Numbers of an exit's weights that are multiplied at a time."""


def power_of_two(number: int) -> int:
    """The least power of two that is at least this."""
    return 1 << (number - 1).bit_length()


def fits(config: ModelConfig) -> bool:
    """Whether the kernels can run a model: all rows pooled, heads a power of two wide."""
    size = config.encoder.hidden_size // config.encoder.heads
    return config.pooling is not Pooling.CLS and size == power_of_two(size) >= SMALLEST_DOT


def _attend(qkv: Tensor, heads: int, bounds: Tensor, parts: int) -> Tensor:
    """Attention of packed rows, `[tokens, 3 * hidden]`: `[tokens, hidden]`."""
    size = qkv.shape[1] // 3 // heads
    out = qkv.new_empty(len(qkv), heads * size)
    kernels.attend[len(bounds) - 1, heads, parts](
        qkv,
        out,
        bounds,
        log2(e) / sqrt(size),
        HEADS=heads,
        SIZE=size,
        TILE=TILE,
        PARTS=parts,
    )
    return out


class FusedStages(ResidentStages):
    """A model that `fits` and its hidden-state store on one GPU."""

    def __init__(
        self,
        model: MultiExitModel,
        calibration: Calibration,
        slots: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__(model, calibration, slots, dtype, device)
        heads = [head for head in model.heads if isinstance(head, ExitHead)]
        self._read_mixes = [mix.float() for mix in self._mixes]
        self._read_weights = [head.linear.weight.detach().float() for head in heads]
        self._read_biases = [head.linear.bias.detach().float() for head in heads]

    def step(self, stage: int, inputs: StepInputs) -> Tensor:
        """Run one stage on the rows in these slots: readings `[rows, 2 + labels]`, float32."""
        config = self.config
        bounds, stored, positions = self._lay_out(inputs)
        hidden = (
            self._embedded(inputs, positions)
            if stage == 0
            else self._hidden.index_select(0, stored)
        )
        layers = config.stage_layers(stage)
        keeps = stage + 1 < config.exits
        for index in layers:
            layer = self._model.encoder.layers[index]
            assert isinstance(layer, EncoderLayer)
            context = self._attended(layer.qkv(hidden), layer.heads, bounds)
            hidden = self._add_norm(layer.attention_out(context), hidden, layer.attention_norm)
            fed = layer.down(self._raised(layer, hidden))
            last = keeps and index == layers[-1]
            out, places = (self._hidden, stored) if last else (None, None)
            hidden = self._add_norm(fed, hidden, layer.norm, out, places)
            self._pool_rows(index, hidden, bounds, inputs, stored=last)
        return self._readings(stage, inputs)

    def _lay_out(self, inputs: StepInputs) -> tuple[Tensor, Tensor, Tensor]:
        """Rows' bounds `[rows + 1]`, and of each token its place in the store and in its row."""
        rows, tokens, device = len(inputs.slots), len(inputs.ids), inputs.ids.device
        bounds = torch.empty(rows + 1, dtype=torch.int32, device=device)
        stored = torch.empty(tokens, dtype=torch.int64, device=device)
        positions = torch.empty(tokens, dtype=torch.int32, device=device)
        kernels.lay_out[-(-tokens // SMALLEST_DOT),](
            inputs.slots,
            inputs.lengths,
            bounds,
            stored,
            positions,
            rows,
            tokens,
            self.spare_slot,
            self.config.max_tokens,
            ROWS=power_of_two(rows),
            TOKENS=SMALLEST_DOT,
        )
        return bounds, stored, positions

    def _embedded(self, inputs: StepInputs, positions: Tensor) -> Tensor:
        embeddings = self._model.encoder.embeddings
        kind = embeddings.token_type
        words, norm = embeddings.word.weight, embeddings.norm
        out = words.new_empty(len(inputs.ids), words.shape[1])
        kernels.embed[len(out),](
            inputs.ids,
            inputs.types,
            positions,
            words,
            embeddings.position.weight,
            words if kind is None else kind.weight,
            norm.weight,
            norm.bias,
            out,
            embeddings.position_offset,
            words.shape[1],
            norm.eps,
            WIDTH=power_of_two(words.shape[1]),
            TYPED=kind is not None,
        )
        return out if embeddings.project is None else embeddings.project(out)

    def _attended(self, qkv: Tensor, heads: int, bounds: Tensor) -> Tensor:
        """Attention with as many programs a row as fill a card."""
        longest = -(-min(self.config.max_tokens, len(qkv)) // TILE)
        rows = len(bounds) - 1
        return _attend(qkv, heads, bounds, max(1, min(longest, PROGRAMS // (rows * heads))))

    def _add_norm(
        self,
        hidden: Tensor,
        residual: Tensor,
        norm: torch.nn.LayerNorm,
        out: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """The norm of a sum, at the places of `out` that are told."""
        tokens, size = hidden.shape
        target = torch.empty_like(hidden) if out is None else out
        kernels.add_norm[tokens,](
            hidden,
            residual,
            norm.weight,
            norm.bias,
            target,
            hidden if places is None else places,
            size,
            norm.eps,
            WIDTH=power_of_two(size),
            PLACED=places is not None,
        )
        return target

    def _raised(self, layer: EncoderLayer, hidden: Tensor) -> Tensor:
        """The up projection through its activation.

        cuBLAS applies GELU as it writes, by the tanh form, which differs from the other by less
        than half precision does.
        """
        halved = hidden.dtype in FLASH_TYPES
        if halved and layer.activation in (Activation.GELU, Activation.GELU_NEW, Activation.RELU):
            gelu = layer.activation is not Activation.RELU
            weight = layer.up.weight.t()
            product = torch.ops.aten._addmm_activation  # noqa: SLF001
            raised: Tensor = product(layer.up.bias, hidden, weight, use_gelu=gelu)
            return raised
        return activate(layer.activation, layer.up(hidden))

    def _pool_rows(
        self, layer: int, hidden: Tensor, bounds: Tensor, inputs: StepInputs, *, stored: bool
    ) -> None:
        pooled, queries = self._pooled[:, layer], self._model.queries
        size = pooled.shape[1]
        if queries is not None:
            kernels.pool_attending[len(inputs.slots),](
                hidden,
                bounds,
                inputs.slots,
                queries[layer],
                pooled,
                pooled.stride(0),
                size,
                self.config.max_tokens,
                TILE=ATTENDED_TOKENS,
                WIDTH=power_of_two(size),
                STORED=stored,
            )
            return
        kernels.pool[len(inputs.slots), -(-size // POOLED_COLUMNS)](
            hidden,
            bounds,
            inputs.slots,
            pooled,
            pooled.stride(0),
            size,
            self.config.max_tokens,
            TILE=POOLED_TOKENS,
            WIDTH=POOLED_COLUMNS,
            STORED=stored,
            num_warps=POOLING_WARPS,
        )

    def _readings(self, stage: int, inputs: StepInputs) -> Tensor:
        weight, pooled = self._read_weights[stage], self._pooled
        labels, size = weight.shape
        rows = len(inputs.slots)
        out = weight.new_empty(rows, PROBABILITIES + labels)
        rule = self._rule
        padded = max(2, power_of_two(labels))
        kernels.read[rows,](
            pooled,
            inputs.slots,
            self._read_mixes[stage],
            weight,
            self._read_biases[stage],
            out,
            pooled.stride(0),
            size,
            1 / self._temperatures[stage],
            rule.powers[stage] if rule.powers else 1.0,
            rule.exponents[stage] if rule.exponents else 1.0,
            HIGHEST_CONFIDENCE,
            labels,
            LAYERS=len(self._read_mixes[stage]),
            LABELS=padded,
            WIDTH=max(16, min(power_of_two(size), READ_NUMBERS // padded)),
        )
        return out
