"""The stage forward at its best on a CPU: few operators, weights laid out once, no padding.

A layer is seven operators: four projections that take bias, activation and residual with them,
attention for each run of rows of equal length, two layer norms.

oneDNN compiles a kernel for each number of tokens it meets, milliseconds each. So that a running
server never waits for one, the numbers are few: every one up to 64 tokens, multiples of 8 above,
where rows of zeros fill up; `warm` compiles them all.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from offramp.model.config import Pooling
from offramp.model.encoder import EncoderLayer
from offramp.model.exits import ExitHead, MultiExitModel, StageOutput, attended
from offramp.model.packing import Layout, PackedTokens
from offramp.model.projection import Projection

EXACT_TOKENS = 64
GRAIN = 8


def can_prepack() -> bool:
    """Whether this build of PyTorch has oneDNN."""
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def token_bucket(tokens: int) -> int:
    """The number of tokens that a step of `tokens` is computed at."""
    return tokens if tokens <= EXACT_TOKENS else -(-tokens // GRAIN) * GRAIN


class PrepackedLayer:
    """One encoder layer on `[tokens, hidden]`."""

    def __init__(self, layer: EncoderLayer, projection: type[Projection]) -> None:
        self._heads = layer.heads
        self._activation = layer.activation
        self._qkv = projection(layer.qkv)
        self._attention_out = projection(layer.attention_out)
        self._up = projection(layer.up)
        self._down = projection(layer.down)
        dtype = self._qkv.dtype
        self._attention_norm = _norm(layer.attention_norm, dtype)
        self._norm = _norm(layer.norm, dtype)

    def __call__(self, hidden: Tensor, layout: Layout) -> Tensor:
        """Transform hidden states; tokens beyond those of `layout` fill up and mean nothing."""
        context = self._attend(self._qkv(hidden), layout)
        hidden = self._attention_norm(self._attention_out.added(context, hidden))
        raised = self._up.activated(hidden, self._activation)
        return self._norm(self._down.added(raised, hidden))

    def compile(self, hidden: Tensor) -> None:
        """Run each product once at this number of tokens."""
        self._qkv(hidden)
        self._attention_out.added(hidden, hidden)
        self._down.added(self._up.activated(hidden, self._activation), hidden)

    def _attend(self, qkv: Tensor, layout: Layout) -> Tensor:
        split = qkv.view(len(qkv), 3, self._heads, -1)
        parts: list[Tensor] = []
        for run in layout.runs:
            query, key, value = run.of(split).permute(2, 0, 3, 1, 4).unbind()
            attended = functional.scaled_dot_product_attention(query, key, value)
            parts.append(attended.transpose(1, 2).reshape(run.rows * run.length, -1))
        if fill := len(qkv) - layout.tokens:
            parts.append(qkv.new_zeros(fill, qkv.shape[1] // 3))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class PrepackedRunner:
    """A whole model in this form; its weights are copies, so the module may go."""

    def __init__(self, model: MultiExitModel, projection: type[Projection]) -> None:
        model = model.eval()
        self._size = model.config.encoder.hidden_size
        self._stages = [model.config.stage_layers(stage) for stage in range(model.config.exits)]
        self._embeddings = model.encoder.embeddings
        layers = [layer for layer in model.encoder.layers if isinstance(layer, EncoderLayer)]
        self._layers = [PrepackedLayer(layer, projection) for layer in layers]
        self._heads = [_head(head) for head in model.heads if isinstance(head, ExitHead)]
        self._pooler = model.pooler if model.config.pooling is Pooling.CLS else None
        self.dtype = projection.dtype
        queries = model.queries
        self._queries = None if queries is None else queries.detach().to(self.dtype)

    def embed(self, packed: PackedTokens) -> Tensor:
        """Hidden states before the first layer: `[tokens, hidden]`."""
        hidden: Tensor = self._embeddings(packed)
        return hidden.to(self.dtype)

    def run_stage(
        self, stage: int, hidden: Tensor, pooled: Tensor | None, layout: Layout
    ) -> StageOutput:
        """Run the layers of `stage` and read its exit, as `MultiExitModel.run_stage` does."""
        vectors = [] if pooled is None else [pooled]
        tokens = len(hidden)
        if fill := token_bucket(tokens) - tokens:
            hidden = functional.pad(hidden, (0, 0, 0, fill))
        for index in self._stages[stage]:
            hidden = self._layers[index](hidden, layout)
            vectors.append(self._pool(index, hidden, layout).unsqueeze(1))
        pooled = vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=1)
        return StageOutput(hidden[:tokens], pooled, self._heads[stage](pooled))

    def positions(self, tokens: int) -> int:
        """The bucket that holds them."""
        return token_bucket(tokens)

    @torch.inference_mode()
    def warm(self, tokens: int) -> None:
        """Compile every kernel that steps of up to `tokens` tokens need."""
        for count in sorted({token_bucket(count) for count in range(1, tokens + 1)}):
            self._layers[0].compile(torch.zeros(count, self._size, dtype=self.dtype))

    def _pool(self, layer: int, hidden: Tensor, layout: Layout) -> Tensor:
        rows = [run.of(hidden) for run in layout.runs]
        if self._pooler is None:
            if self._queries is None:
                means = [run.mean(1) for run in rows]
            else:
                query = self._queries[layer]
                means = [attended(run, query) for run in rows]
            return means[0] if len(means) == 1 else torch.cat(means)
        first: Tensor = self._pooler(torch.cat([run[:, 0] for run in rows]).float())
        return first.tanh().to(self.dtype)


def _norm(module: nn.LayerNorm, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    weight, bias = module.weight.detach().to(dtype), module.bias.detach().to(dtype)
    shape, epsilon = module.normalized_shape, module.eps
    return lambda hidden: torch.layer_norm(hidden, shape, weight, bias, epsilon)


def _head(head: ExitHead) -> Callable[[Tensor], Tensor]:
    mix = head.mix.detach().float().softmax(0)
    weight, bias = head.linear.weight.detach().float().t(), head.linear.bias.detach().float()
    return lambda pooled: torch.addmm(bias, torch.matmul(mix, pooled.float()), weight)
