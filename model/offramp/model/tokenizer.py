"""Text to token ids: truncation set once, safe to call from any thread, never padding."""

import re
from array import array
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

from tokenizers import Encoding, Tokenizer

from offramp.model.errors import CheckpointError
from offramp.model.words import INT32, Frame, WordMemory, parts_by_words

CHARACTERS_PER_TOKEN = 32
"""Texts are cut at this many characters a token before tokenizing, so that the tokenizer's cost
is bounded by the token limit and not by the text. Words of real text average under six."""


GAP, GAPS = re.compile(r"\s{2,}"), 16
"""Spaces between words, and how many times what is read of a text they may make of it."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One tokenized input, special tokens included: ids, and a type for each, or none if all are 0.

    Both are int32, so that rows are laid end to end without a look at each number.
    """

    ids: "array[int]"
    types: "array[int]"
    truncated: bool

    @classmethod
    def of(cls, ids: Iterable[int], types: Iterable[int] = (), *, truncated: bool = False) -> Self:
        """From numbers of any kind; raises ValueError if types are neither none nor one each."""
        found, kinds = array(INT32, ids), array(INT32, types)
        if kinds and len(kinds) != len(found):
            raise ValueError(f"{len(kinds)} token types of {len(found)} tokens")
        return cls(found, kinds if any(kinds) else array(INT32), truncated)

    def __len__(self) -> int:
        return len(self.ids)


class TextTokenizer:
    """A fast tokenizer with a token limit; threads share it, for nothing changes it once made.

    Special tokens that a text spells out (`[SEP]`, `</s>`) are read as plain text, so no input
    can forge the structure of another.
    """

    def __init__(self, definition: str, max_tokens: int) -> None:
        self._definition = definition
        self._max_tokens = max_tokens
        self._max_characters = max_tokens * CHARACTERS_PER_TOKEN
        self._tokenizer = Tokenizer.from_str(definition)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True
        self._words = WordMemory() if parts_by_words(definition) else None
        self._frames: tuple[Frame, Frame] | None = None
        if self._words is not None:
            with suppress(Exception):  # bare where it knows no "a" (Rust), or in no order
                one, two = self._tokenizer.encode_batch_fast(["a", ("a", "a a")])
                self._frames = Frame(one), Frame(two)
        self._tokenizer.enable_truncation(max_tokens, strategy="longest_first")

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

    def reach(self, *, pair: bool) -> tuple[int, int]:
        """The highest id, and the highest token type of pairs or single texts, there can be."""
        words = self._tokenizer.get_vocab(with_added_tokens=True).values()
        (tokens,) = self.encode([("a", "a" if pair else None)])
        return max(*words, *tokens.ids), max(tokens.types, default=0)

    def special_tokens(self, *, pair: bool) -> int:
        """How many of an input's tokens are special, whatever it says."""
        return self._tokenizer.num_special_tokens_to_add(pair)

    def encode(self, inputs: Sequence[tuple[str, str | None]]) -> list[Tokens]:
        """Tokenize texts and optional second texts, cut to the token limit (longest first)."""
        limit = self._max_characters
        found: list[Tokens | None] = []
        left: list[tuple[int, str | tuple[str, str], bool]] = []
        for text, pair in inputs:
            first, cut_short = _cut(text, limit)
            second, lost = (None, False) if pair is None else _cut(pair, limit)
            cut_short = cut_short or lost
            tokens = self._by_words(first, second, cut_short=cut_short)
            if tokens is None:
                left.append((len(found), first if second is None else (first, second), cut_short))
            found.append(tokens)
        if left:
            # Without offsets, which nobody asks for.
            encodings = self._tokenizer.encode_batch_fast([texts for _, texts, _ in left])
            for (index, _, cut_short), encoding in zip(left, encodings, strict=True):
                found[index] = _tokens(encoding, cut_short=cut_short)
        return cast("list[Tokens]", found)  # each was found by words, or left and asked for

    def _by_words(self, text: str, pair: str | None, *, cut_short: bool) -> Tokens | None:
        """The tokens of an input made of words; None if the tokenizer must be asked."""
        words = self._words
        if words is None or self._frames is None:
            return None
        frame = self._frames[pair is not None]
        room = self._max_tokens - frame.specials
        ids = words.ids(text, room, self._of_word)
        if ids is None:
            return None
        if pair is None:
            truncated = cut_short or len(ids) > room
            return Tokens(*frame.around(ids[:room]), truncated)
        others = words.ids(pair, room, self._of_word)
        if others is None or len(ids) + len(others) > room:
            return None
        return Tokens(*frame.around(ids, others), cut_short)

    def _of_word(self, word: str) -> Sequence[int]:
        """A word's ids, without special tokens; none if they are more than an input may have."""
        encoding = self._tokenizer.encode(word, add_special_tokens=False)
        ids: list[int] = [] if encoding.overflowing else encoding.ids
        return ids


def _cut(text: str, limit: int) -> tuple[str, bool]:
    """So many characters of a text at most, and whether others than spaces were lost.

    What is longer has each of its gaps narrowed to one space first, as far as `GAPS` times the
    limit, so that a text is read however it is spaced.
    """
    if len(text) <= limit:
        return text, False
    text = text.lstrip()
    near, far = text[: GAPS * limit], text[GAPS * limit :]
    narrow = GAP.sub(" ", near)
    cut, lost = narrow[:limit], narrow[limit:]
    return cut, bool(lost and not lost.isspace()) or bool(far and not far.isspace())


def _tokens(encoding: Encoding, *, cut_short: bool) -> Tokens:
    truncated = cut_short or bool(encoding.overflowing)
    return Tokens.of(encoding.ids, encoding.type_ids, truncated=truncated)
