"""The same encoder in `transformers` with torch.compile, padded and batched."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from offramp.model.config import ModelConfig
from offramp.model.tokenizer import Tokens

PEER_ROWS = (32, 128, 512)
"""Batches that the padded peer is tried with; the best counts."""


def padded_peer(
    config: ModelConfig, device: torch.device, tokens: Sequence[Tokens]
) -> dict[str, float]:
    """Rows a second of `transformers` with torch.compile, in padded batches.

    `arriving` batches requests as they come, which is what dynamic batching does; `sorted` first
    sorts all of them by length, which no server can, so that next to nothing is padded.
    """
    from transformers import BertConfig, BertModel  # noqa: PLC0415

    encoder = config.encoder
    settings = BertConfig(
        hidden_size=encoder.hidden_size,
        num_hidden_layers=encoder.layers,
        num_attention_heads=encoder.heads,
        intermediate_size=encoder.intermediate_size,
    )
    model: Any = BertModel(settings).eval().to(device, torch.bfloat16)  # type: ignore[no-untyped-call]
    compiled: Any = torch.compile(model, dynamic=True)
    orders = {"arriving": list(tokens), "sorted": sorted(tokens, key=len)}
    return {
        name: max(_padded(compiled, device, order, most) for most in PEER_ROWS)
        for name, order in orders.items()
    }


def _padded(compiled: Any, device: torch.device, tokens: Sequence[Tokens], most: int) -> float:  # noqa: ANN401
    batches: list[tuple[torch.Tensor, torch.Tensor]] = []
    for at in range(0, len(tokens), most):
        part = tokens[at : at + most]
        ids = torch.zeros(len(part), max(map(len, part)), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, own in enumerate(part):
            ids[row, : len(own)] = torch.tensor(own.ids)
            mask[row, : len(own)] = 1
        batches.append((ids.to(device), mask.to(device)))
    started = 0.0
    with torch.inference_mode():
        for _ in range(2):
            torch.cuda.synchronize()
            started = time.perf_counter()
            for ids, mask in batches:
                compiled(input_ids=ids, attention_mask=mask)
            torch.cuda.synchronize()
    return len(tokens) / (time.perf_counter() - started)
