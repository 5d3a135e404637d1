"""Text to token ids: truncation set once, safe to call from any thread, never padding."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from offramp.model.errors import CheckpointError

CHARACTERS_PER_TOKEN = 32
"""Texts are cut at this many characters a token before tokenizing, so that the tokenizer's cost
is bounded by the token limit and not by the text. Words of real text average under six."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One tokenized input: ids and token types of equal length, special tokens included."""

    ids: tuple[int, ...]
    types: tuple[int, ...]
    truncated: bool

    def __len__(self) -> int:
        return len(self.ids)


class TextTokenizer:
    """A fast tokenizer with a token limit; every thread works on a copy of its own.

    Special tokens that a text spells out (`[SEP]`, `</s>`) are read as plain text, so no input
    can forge the structure of another.
    """

    def __init__(self, definition: str, max_tokens: int) -> None:
        self._definition = definition
        self._max_tokens = max_tokens
        self._max_characters = max_tokens * CHARACTERS_PER_TOKEN
        self._local = threading.local()

    @classmethod
    def from_file(cls, path: Path, max_tokens: int) -> "TextTokenizer":
        """Read a `tokenizer.json`; raises CheckpointError if it is missing or damaged."""
        try:
            tokenizer = cls(path.read_text(encoding="utf-8"), max_tokens)
            tokenizer.encode([("warm up", None)])
        except FileNotFoundError:
            raise CheckpointError(path, "the tokenizer is missing") from None
        except Exception as error:  # the Rust tokenizer raises bare Exception
            raise CheckpointError(path, f"not a readable tokenizer: {error}") from error
        return tokenizer

    @property
    def definition(self) -> str:
        """The `tokenizer.json` text this was made from."""
        return self._definition

    def special_tokens(self, *, pair: bool) -> int:
        """How many of an input's tokens are special, whatever it says."""
        return self._tokenizer().num_special_tokens_to_add(pair)

    def encode(self, inputs: Sequence[tuple[str, str | None]]) -> list[Tokens]:
        """Tokenize texts and optional second texts, cut to the token limit (longest first)."""
        limit = self._max_characters
        cut = [(text[:limit], pair and pair[:limit]) for text, pair in inputs]
        batch = [text if pair is None else (text, pair) for text, pair in cut]
        encodings = self._tokenizer().encode_batch_fast(
            batch
        )  # without offsets, which nobody asks for
        return [
            _tokens(encoding, cut_short=before != after)
            for encoding, before, after in zip(encodings, inputs, cut, strict=True)
        ]

    def _tokenizer(self) -> Tokenizer:
        tokenizer: Tokenizer | None = getattr(self._local, "tokenizer", None)
        if tokenizer is None:
            tokenizer = Tokenizer.from_str(self._definition)
            tokenizer.no_padding()
            tokenizer.enable_truncation(self._max_tokens, strategy="longest_first")
            tokenizer.encode_special_tokens = True
            self._local.tokenizer = tokenizer
        return tokenizer


def _tokens(encoding: Encoding, *, cut_short: bool) -> Tokens:
    truncated = cut_short or bool(encoding.overflowing)
    return Tokens(tuple(encoding.ids), tuple(encoding.type_ids), truncated)
