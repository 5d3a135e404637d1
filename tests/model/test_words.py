"""Tokens by remembered words are those of the tokenizer itself, whatever the text."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from offramp.model import words as words_module
from offramp.model.tokenizer import TextTokenizer, Tokens
from offramp.model.words import parts_by_words

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "sst2-minilm" / "tokenizer.json"
DEFINITION = SHIPPED.read_text(encoding="utf-8")
LIMITS = (5, 16, 128)
BY_WORDS = {limit: TextTokenizer(DEFINITION, limit) for limit in LIMITS}

PIECES = [
    "a film",
    "unbelievably",
    "n't",
    "[SEP]",
    "[cls]",
    "[MASK]",
    "...",
    "<br />",
    "x" * 39,
    "y" * 120,
    "-" * 41,
    "café",
    "\t",
    "\n",
    " ",
    "\x00",
    "\x0b",
    "\x1c",
    "\u00a0",
    "\u3000",
    "映画",
    "123.45",
    "##ing",
    "A-Z",
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=40).map(" ".join) | (
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
)


def plain(limit: int) -> Tokenizer:
    tokenizer = Tokenizer.from_str(DEFINITION)
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit, strategy="longest_first")
    tokenizer.encode_special_tokens = True
    return tokenizer


PLAIN = {limit: plain(limit) for limit in LIMITS}


def wanted(limit: int, text: str, pair: str | None) -> Tokens:
    encoding = PLAIN[limit].encode(text, pair)
    return Tokens(tuple(encoding.ids), tuple(encoding.type_ids), bool(encoding.overflowing))


@settings(deadline=None)  # a thread's first text reads the tokenizer
@given(TEXTS, st.none() | TEXTS, st.sampled_from(LIMITS))
def test_words_end_to_end_are_the_text(text: str, pair: str | None, limit: int) -> None:
    once, again = (BY_WORDS[limit].encode([(text, pair)])[0] for _ in range(2))
    assert once == again
    if len(text) <= 32 * limit and len(pair or "") <= 32 * limit:
        assert once == wanted(limit, text, pair)


def test_every_input_of_a_batch_keeps_its_place() -> None:
    inputs = [("a film", None), ("un café", None), ("a", "b"), ("x" * 50, "a film"), ("", None)]
    together = BY_WORDS[16].encode(inputs)
    assert together == [wanted(16, *one) for one in inputs]


def test_a_text_beyond_the_limit_says_so() -> None:
    tokens = BY_WORDS[5].encode([("a film a film a film", None)])[0]
    assert tokens.truncated
    assert len(tokens) == 5


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words_module, "MOST_WORDS", 10)
    tokenizer = TextTokenizer(DEFINITION, 128)
    text = " ".join(f"word{i}" for i in range(25))
    assert tokenizer.encode([(text, None)])[0] == wanted(128, text, None)
    assert tokenizer.words_known <= 10


def test_only_tokenizers_that_part_texts_by_words_are_cut_short() -> None:
    assert parts_by_words(DEFINITION)
    bytes_joined = Tokenizer(models.BPE())
    bytes_joined.pre_tokenizer = pre_tokenizers.ByteLevel()
    bytes_joined.decoder = decoders.ByteLevel()
    assert not parts_by_words(bytes_joined.to_str())
    with_a_phrase = Tokenizer.from_str(DEFINITION)
    with_a_phrase.add_tokens(["new york"])
    assert not parts_by_words(with_a_phrase.to_str())
