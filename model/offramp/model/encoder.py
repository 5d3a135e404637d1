"""A BERT-family encoder that runs any range of its layers over packed rows.

One module serves BERT, MiniLM, RoBERTa, DistilBERT and ELECTRA: they are the same post-norm
transformer and differ in sizes, in where positions start and in which embeddings exist.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from offramp.model.config import EncoderConfig
from offramp.model.packing import Layout, PackedTokens
from offramp.model.projection import activate


class Embeddings(nn.Module):
    """Word, position and token-type embeddings, normalised and, for ELECTRA, projected."""

    def __init__(self, config: EncoderConfig, dropout: float) -> None:
        super().__init__()
        size = config.embedding_size
        self.position_offset = config.position_offset
        self.word = nn.Embedding(config.vocab_size, size)
        self.position = nn.Embedding(config.positions, size)
        self.token_type = nn.Embedding(config.token_types, size) if config.token_types else None
        self.norm = nn.LayerNorm(size, config.layer_norm_eps)
        self.dropout = nn.Dropout(dropout)
        self.project = None if size == config.hidden_size else nn.Linear(size, config.hidden_size)

    def forward(self, packed: PackedTokens) -> Tensor:
        """Embed packed tokens: `[tokens, hidden]`."""
        positions = packed.layout.positions(packed.ids.device) + self.position_offset
        hidden: Tensor = self.word(packed.ids) + self.position(positions)
        if self.token_type is not None:
            hidden = hidden + self.token_type(packed.types)
        hidden = self.dropout(self.norm(hidden))
        if self.project is not None:
            hidden = self.project(hidden)
        return hidden


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each with its residual and norm."""

    def __init__(self, config: EncoderConfig, dropout: float) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = config.heads
        self.activation = config.activation
        self.qkv = nn.Linear(size, 3 * size)
        self.attention_out = nn.Linear(size, size)
        self.attention_norm = nn.LayerNorm(size, config.layer_norm_eps)
        self.up = nn.Linear(size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, size)
        self.norm = nn.LayerNorm(size, config.layer_norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """Transform `[tokens, hidden]`; attention stays within each row of `layout`."""
        attended = self.attention_out(self._attend(self.qkv(hidden), layout))
        hidden = self.attention_norm(hidden + self.dropout(attended))
        fed = self.down(activate(self.activation, self.up(hidden)))
        output: Tensor = self.norm(hidden + self.dropout(fed))
        return output

    def _attend(self, qkv: Tensor, layout: Layout) -> Tensor:
        dropout = self.dropout.p if self.training else 0.0
        split = qkv.view(len(qkv), 3, self.heads, -1)
        trained = qkv.requires_grad and qkv.device.type == "cpu"
        attend = attention_in_products if trained else fused_attention
        parts: list[Tensor] = []
        for run in layout.runs:
            query, key, value = run.of(split).permute(2, 0, 3, 1, 4)
            context = attend(query, key, value, dropout)
            parts.append(context.transpose(1, 2).flatten(2).flatten(0, 1))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def fused_attention(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    """PyTorch's operator on `[rows, heads, length, head size]`, of which it returns one."""
    return functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)


def attention_in_products(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    """The same as two products, whose way back takes a CPU half as long as the fused one's."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return functional.dropout(scores.softmax(-1), dropout).to(value.dtype) @ value


class Encoder(nn.Module):
    """Embeddings and layers, run one at a time by whoever decides how deep to go."""

    def __init__(self, config: EncoderConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config, dropout)
        self.layers = nn.ModuleList(EncoderLayer(config, dropout) for _ in range(config.layers))

    def embed(self, packed: PackedTokens) -> Tensor:
        """Hidden states before the first layer: `[tokens, hidden]`."""
        hidden: Tensor = self.embeddings(packed)
        return hidden

    def layer(self, index: int, hidden: Tensor, layout: Layout) -> Tensor:
        """Run layer `index` (from 0) on `[tokens, hidden]`, row by row as `layout` says."""
        output: Tensor = self.layers[index](hidden, layout)
        return output
