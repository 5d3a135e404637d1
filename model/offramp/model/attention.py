"""Attention of packed rows on a CPU: each run of rows of equal length for itself, no mask."""

import torch
from torch import Tensor
from torch.nn import functional

from offramp.model.packing import Layout

BY_HAND = range(20, 65)
"""Lengths of a row without a neighbour of its length whose attention is quicker as two products of
its own than as PyTorch's fused operator, which is made for long rows (docs/performance.md)."""


def attend(qkv: Tensor, heads: int, layout: Layout) -> Tensor:
    """Context `[tokens, hidden]` of `[tokens, 3 x hidden]`; tokens beyond the layout get zeros."""
    tokens = qkv.shape[0]
    split = qkv.view(tokens, 3, heads, -1)
    parts: list[Tensor] = []
    for run in layout.runs:
        if run.rows == 1 and run.length in BY_HAND and qkv.dtype is torch.float32:
            parts.append(_by_hand(split[run.start : run.end]))
            continue
        query, key, value = run.of(split).permute(2, 0, 3, 1, 4).unbind()
        attended = functional.scaled_dot_product_attention(query, key, value)
        parts.append(attended.transpose(1, 2).reshape(run.rows * run.length, -1))
    if fill := tokens - layout.tokens:
        parts.append(qkv.new_zeros(fill, qkv.shape[1] // 3))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _by_hand(split: Tensor) -> Tensor:
    """Attention of one row from `[tokens, 3, heads, head size]`: `[tokens, hidden]`."""
    tokens, _, _, size = split.shape
    query, key, value = split.permute(1, 2, 0, 3).unbind()
    keys, scale = key.transpose(1, 2), size**-0.5
    scores = torch.baddbmm(split.new_empty(1, 1, 1), query, keys, beta=0, alpha=scale)
    return torch.bmm(scores.softmax(-1), value).transpose(0, 1).reshape(tokens, -1)
