"""Tokenized examples and length-bucketed batches of them."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.model.packing import PackedTokens
from offramp.model.tokenizer import TextTokenizer, Tokens
from offramp.training.data import Example

BUCKET_BATCHES = 50
"""Batches sorted by length together: enough to make rows alike, few enough to stay random."""


@dataclass(frozen=True, slots=True)
class Row:
    """A tokenized example; `index` is its place in the dataset."""

    index: int
    tokens: Tokens
    label: int


def tokenize(examples: Sequence[Example], tokenizer: TextTokenizer) -> list[Row]:
    """Tokenize a dataset once, before the first epoch; raises ValueError of a text without tokens.

    A tokenizer that puts none of its own around a text may leave nothing of one of odd characters.
    """
    encoded = tokenizer.encode([example.pair for example in examples])
    for tokens, example in zip(encoded, examples, strict=True):
        if not len(tokens):
            raise ValueError(f"the tokenizer leaves no token of the text {example.text!r}; drop it")
    return [
        Row(index, tokens, example.label)
        for index, (tokens, example) in enumerate(zip(encoded, examples, strict=True))
    ]


def shuffled_batches(rows: Sequence[Row], batch_rows: int, rng: random.Random) -> list[list[Row]]:
    """One epoch's batches in random order, each of rows of similar length."""
    order = list(rows)
    rng.shuffle(order)
    batches: list[list[Row]] = []
    for start in range(0, len(order), batch_rows * BUCKET_BATCHES):
        bucket = order[start : start + batch_rows * BUCKET_BATCHES]
        batches.extend(sorted_batches(bucket, batch_rows))
    rng.shuffle(batches)
    return batches


def sorted_batches(rows: Sequence[Row], batch_rows: int) -> Iterator[list[Row]]:
    """Batches of neighbours in length, shortest first."""
    order = sorted(rows, key=lambda row: len(row.tokens))
    for start in range(0, len(order), batch_rows):
        yield order[start : start + batch_rows]


def collate(batch: Sequence[Row], device: torch.device) -> tuple[PackedTokens, Tensor]:
    """A batch as packed tokens and int64 labels `[rows]`."""
    labels = torch.tensor([row.label for row in batch], device=device)
    return PackedTokens.of([row.tokens for row in batch], device), labels
