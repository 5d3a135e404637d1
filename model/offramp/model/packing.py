"""Packed rows: tokens of several texts laid end to end, with nothing between them.

A padded batch computes every row at the length of the longest. A packed one is a single
`[tokens, hidden]` matrix: the linear layers see only real tokens, and attention, the one
operation that must know where a row ends, runs once for every *run* of neighbouring rows
of equal length, as an unpadded dense batch. Rows sorted by length make the runs few.
Attention has no mask, so no row can see another.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, groupby
from typing import Self

import numpy as np
import torch
from torch import Tensor

from offramp.model.tokenizer import Tokens
from offramp.model.words import INT32


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring rows of one length: tokens `start` to `end` are `rows` rows of `length`."""

    start: int
    rows: int
    length: int

    @property
    def end(self) -> int:
        """One past the run's last token."""
        return self.start + self.rows * self.length

    def of(self, hidden: Tensor) -> Tensor:
        """The run's part of `[tokens, ...]`, viewed as `[rows, length, ...]`."""
        part = hidden[self.start : self.end]
        return part.view(self.rows, self.length, *hidden.shape[1:])


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each row of a packed batch lies."""

    lengths: tuple[int, ...]
    runs: tuple[Run, ...]

    @staticmethod
    def of(lengths: Sequence[int]) -> "Layout":
        """The layout of rows of these lengths (tokens, each at least 1), in this order."""
        return _layout(tuple(lengths))

    @property
    def tokens(self) -> int:
        """Tokens of all rows together."""
        return self.runs[-1].end if self.runs else 0

    def positions(self, device: torch.device) -> Tensor:
        """Place of every token in its row, from 0: int64 `[tokens]`."""
        places = np.fromiter(chain.from_iterable(map(range, self.lengths)), np.int64, self.tokens)
        return torch.from_numpy(places).to(device)

    def owners(self) -> Tensor:
        """Whether a token is a row's: bool `[rows, tokens]`."""
        rows = np.arange(len(self.lengths))
        return torch.from_numpy(rows[:, None] == np.repeat(rows, self.lengths))


@lru_cache(maxsize=1024)
def _layout(lengths: tuple[int, ...]) -> Layout:
    """Made once where the same lengths come again, as they do stage by stage."""
    return Layout(lengths, tuple(_runs(lengths)))


def _runs(lengths: Sequence[int]) -> Iterator[Run]:
    start = 0
    for length, rows in groupby(lengths):
        run = Run(start, sum(1 for _ in rows), length)
        yield run
        start = run.end


@dataclass(frozen=True, slots=True)
class PackedTokens:
    """Token ids and token types of several rows, both int64 `[tokens]`."""

    ids: Tensor
    types: Tensor
    layout: Layout
    paired: bool = True
    """Whether any token may be of another type than 0, as of a second text."""

    @classmethod
    def of(cls, rows: Sequence[Tokens], device: torch.device) -> Self:
        """Lay rows end to end in the order given; sorted by length they run fastest."""
        layout = Layout.of([len(row) for row in rows])
        ids = _laid_out([row.ids for row in rows])
        kinds = types_of(rows)
        types = _laid_out(kinds) if kinds else torch.zeros_like(ids)
        return cls(ids.to(device), types.to(device), layout, paired=bool(kinds))


def types_of(rows: Sequence[Tokens]) -> "list[array[int]]":
    """The rows' token types, those of rows that name none too; empty if all are 0."""
    if not any(row.types for row in rows):
        return []
    return [row.types or array(INT32, (0,)) * len(row) for row in rows]


def end_to_end(rows: "Sequence[array[int]]") -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Numbers of several rows: int32 `[numbers]`, not to be written to."""
    return np.frombuffer(b"".join(rows), np.int32)


def _laid_out(rows: "Sequence[array[int]]") -> Tensor:
    """Numbers of several rows: int64 `[numbers]`."""
    return torch.from_numpy(end_to_end(rows).astype(np.int64))
