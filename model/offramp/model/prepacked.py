"""The stage forward at its best on a CPU: few operators, weights laid out once, no padding.

A layer is seven operators: four projections that take bias, activation and residual with them (of
few tokens the bias alone), attention for each run of rows of equal length, two layer norms.

oneDNN compiles a kernel for each number of tokens it meets, milliseconds each. So that a running
server never waits for one, the numbers are few: every one up to 64 tokens, multiples of 8 up to 512
and 32 numbers for every doubling beyond, where rows of zeros fill up; `warm` compiles them all.
oneDNN keeps 1024 kernels and forgets the oldest: a layer takes four for each number, other thread
counts and other models theirs, so it is told to keep more before it is first asked for one.
"""

import os
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from offramp.model.attention import attend
from offramp.model.config import Pooling
from offramp.model.encoder import Embeddings, EncoderLayer
from offramp.model.exits import ExitHead, MultiExitModel
from offramp.model.packing import Layout, PackedTokens
from offramp.model.projection import Projection

os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")

EXACT_TOKENS = 64
GRAIN, GRAINS = 8, 64
"""Tokens that the number grows by, or one part in so many of it, rounded up to a power of two."""


def can_prepack() -> bool:
    """Whether this build of PyTorch has oneDNN."""
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def token_bucket(tokens: int) -> int:
    """The number of tokens that a step of `tokens` is computed at."""
    if tokens <= EXACT_TOKENS:
        return tokens
    grain = max(GRAIN, (1 << (tokens - 1).bit_length()) // GRAINS)
    return -(-tokens // grain) * grain


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
        context = attend(self._qkv(hidden), self._heads, layout)
        hidden = self._attention_norm(self._attention_out.added(context, hidden))
        raised = self._up.activated(hidden, self._activation)
        return self._norm(self._down.added(raised, hidden))

    def compile(self, hidden: Tensor) -> None:
        """Run each product once at this number of tokens."""
        self._qkv(hidden)
        self._attention_out.added(hidden, hidden)
        self._down.added(self._up.activated(hidden, self._activation), hidden)


class PrepackedRunner:
    """A whole model in this form; its weights are copies, so the module may go."""

    def __init__(self, model: MultiExitModel, projection: type[Projection]) -> None:
        model = model.eval()
        self._size = model.config.encoder.hidden_size
        self._stages = [model.config.stage_layers(stage) for stage in range(model.config.exits)]
        self._embed = _Embedded(model.encoder.embeddings)
        layers = [layer for layer in model.encoder.layers if isinstance(layer, EncoderLayer)]
        self._layers = [PrepackedLayer(layer, projection) for layer in layers]
        self._heads = [_head(head) for head in model.heads if isinstance(head, ExitHead)]
        self._pooler = model.pooler if model.config.pooling is Pooling.CLS else None
        self.dtype = projection.dtype
        queries = model.queries
        self._queries = None if queries is None else queries.detach().to(self.dtype).unbind()

    def embed(self, packed: PackedTokens) -> Tensor:
        """Hidden states before the first layer: `[tokens, hidden]`."""
        return self._embed(packed).to(self.dtype)

    def run_layers(
        self, stage: int, hidden: Tensor, pooled: Tensor | None, layout: Layout
    ) -> tuple[Tensor, Tensor]:
        """Hidden states and pooled vectors after the layers of `stage`, as `MultiExitModel`'s."""
        vectors = [] if pooled is None else [pooled]
        tokens = hidden.shape[0]
        rows = self._rows(layout)
        if fill := token_bucket(tokens) - tokens:
            hidden = functional.pad(hidden, (0, 0, 0, fill))
        for index in self._stages[stage]:
            hidden = self._layers[index](hidden, layout)
            read = hidden[:tokens] if fill else hidden
            vectors.append(self._pool(index, read, rows).unsqueeze(1))
        pooled = vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=1)
        return hidden[:tokens] if fill else hidden, pooled

    def logits(self, stage: int, pooled: Tensor) -> Tensor:
        """Float32 `[rows, labels]` of the exit of `stage`, from the pooled vectors so far."""
        return self._heads[stage](pooled)

    def positions(self, tokens: int) -> int:
        """The bucket that holds them."""
        return token_bucket(tokens)

    @torch.inference_mode()
    def warm(self, tokens: int) -> Iterable[Callable[[], None]]:
        """Pieces of work that compile a kernel each, all that steps of up to `tokens` need."""
        for count in sorted({token_bucket(count) for count in range(1, tokens + 1)}):
            yield partial(self._compile, count)

    def _compile(self, tokens: int) -> None:
        """For one layer, which serves the others: they are alike."""
        self._layers[0].compile(torch.zeros(tokens, self._size, dtype=self.dtype))

    def _rows(self, layout: Layout) -> Tensor | None:
        """What pooling must know of several rows, the same for all layers; None of a lone one.

        Where a row's tokens are for attention, their weights for the mean, its first for [CLS].
        """
        if len(layout.lengths) == 1:
            return None
        owners = layout.owners()
        if self._pooler is not None:
            return owners.int().argmax(1)
        if self._queries is None:
            return (owners.float() / owners.sum(1, keepdim=True)).to(self.dtype)
        return owners

    def _pool(self, layer: int, hidden: Tensor, rows: Tensor | None) -> Tensor:
        """Pooled vectors `[rows, hidden]` of `[tokens, hidden]`, all of them finite.

        The tokens of other rows weigh nothing, which is one product whatever the lengths.
        """
        if self._pooler is not None:
            vectors: Tensor = self._pooler((hidden[:1] if rows is None else hidden[rows]).float())
            return vectors.tanh().to(self.dtype)
        if self._queries is None:
            return hidden.mean(0, keepdim=True) if rows is None else torch.mm(rows, hidden)
        scores = torch.mv(hidden, self._queries[layer])
        scores = scores.unsqueeze(0) if rows is None else scores.where(rows, -torch.inf)
        weights = torch.softmax(scores, 1, dtype=torch.float32)
        return torch.mm(weights.to(self.dtype), hidden)


class _Embedded:
    """The embeddings of a model in evaluation mode; position and token type are one table."""

    def __init__(self, embeddings: Embeddings) -> None:
        self._word = embeddings.word.weight.detach()
        position = embeddings.position.weight.detach()[embeddings.position_offset :]
        self._positions = len(position)
        if embeddings.token_type is not None:
            position = embeddings.token_type.weight.detach().unsqueeze(1) + position
        self._typed = embeddings.token_type is not None
        self._place = position.flatten(0, -2)
        self._norm = _norm(embeddings.norm, self._word.dtype)
        self._project = embeddings.project

    def __call__(self, packed: PackedTokens) -> Tensor:
        words = torch.embedding(self._word, packed.ids)
        hidden = self._norm(words.add_(self._placed(packed)))
        return hidden if self._project is None else self._project(hidden)

    def _placed(self, packed: PackedTokens) -> Tensor:
        """What places and types of tokens add: `[tokens, hidden]`; of a lone text a slice."""
        lone = len(packed.layout.lengths) == 1
        if lone and not packed.paired:
            return self._place[: packed.layout.tokens]
        places = packed.layout.positions(packed.ids.device)
        if self._typed and packed.paired:
            places = places + packed.types * self._positions
        return torch.embedding(self._place, places)


def _norm(module: nn.LayerNorm, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    weight, bias = module.weight.detach().to(dtype), module.bias.detach().to(dtype)
    shape, epsilon = module.normalized_shape, module.eps
    return lambda hidden: torch.layer_norm(hidden, shape, weight, bias, epsilon)


def _head(head: ExitHead) -> Callable[[Tensor], Tensor]:
    """Layer mix and classifier as one product with the pooled vectors of all layers."""
    mix = head.mix.detach().float().softmax(0)
    weight, bias = head.linear.weight.detach().float(), head.linear.bias.detach().float()
    mixed = (mix[:, None, None] * weight.t()).flatten(0, 1)
    return lambda pooled: torch.addmm(bias, pooled.flatten(1).float(), mixed)
