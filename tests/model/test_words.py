"""Tokens by remembered words are those of the tokenizer itself, whatever the text."""

from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from offramp.model import words as words_module
from offramp.model.tokenizer import TextTokenizer, Tokens
from offramp.model.words import FEW_NEW, WordMemory, parts_by_words

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
    return Tokens.of(encoding.ids, encoding.type_ids, truncated=bool(encoding.overflowing))


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
    memory = WordMemory()
    for start in range(0, 100, 3):
        text = " ".join(f"w{i}" for i in range(start, start + 3))
        ids = memory.ids(text, 99, lambda word: [int(word[1:])])
        assert ids is not None
        assert ids.tolist() == [start, start + 1, start + 2]
        assert len(memory) <= 10


def test_a_text_of_many_new_words_is_the_tokenizers() -> None:
    memory, asked = WordMemory(), list[str]()

    def of_word(word: str) -> list[int]:
        asked.append(word)
        return [len(word)]

    text = "a bb ccc dddd eeeee ffffff ggggggg hhhhhhhh"
    assert memory.ids(text, 99, of_word) is None
    assert len(asked) == FEW_NEW
    assert memory.ids(text, 99, of_word) == array("i", [1, 2, 3, 4, 5, 6, 7, 8])
    assert sorted(asked) == text.split()


def test_token_types_are_one_each_or_none() -> None:
    assert Tokens.of((1, 2), (0, 0)) == Tokens.of((1, 2))
    assert Tokens.of((1, 2), (0, 1)).types.tolist() == [0, 1]
    with pytest.raises(ValueError, match="1 token types of 2 tokens"):
        Tokens.of((1, 2), (1,))


TEMPLATES = [None, ("$A [SEP]", "$A [SEP] $B:1 [SEP]:1"), ("$A [SEP]", "$B:1 [SEP]:1 $A:0 [SEP]:0")]


@pytest.mark.parametrize("template", TEMPLATES)
def test_whatever_stands_around_texts(template: tuple[str, str] | None) -> None:
    """Also where nothing does, and where the second text stands first."""
    bare = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2, "[SEP]": 3}, unk_token="[UNK]"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    if template:
        specials = [("[SEP]", 3)]
        bare.post_processor = processors.TemplateProcessing(*template, special_tokens=specials)
    ours = TextTokenizer(bare.to_str(), 9)
    bare.enable_truncation(9, strategy="longest_first")
    for one in [("a b", None), ("a b b", "b b a"), ("c", "a"), ("a " * 20, None), ("a " * 20, "b")]:
        text, pair = one
        found = bare.encode_batch_fast([text if pair is None else (text, pair)])[0]
        expected = Tokens.of(found.ids, found.type_ids, truncated=bool(found.overflowing))
        for _ in range(2):
            assert ours.encode([one])[0] == expected


def test_a_tokenizer_without_unknown_words_is_no_matter() -> None:
    letters = Tokenizer(models.WordLevel({"[UNK]": 0, "yes": 1}, unk_token="[MISSING]"))
    letters.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(Exception, match="WordLevel"):
        TextTokenizer(letters.to_str(), 9).encode([("no", None)])
    assert TextTokenizer(letters.to_str(), 9).encode([("yes", None)])[0] == Tokens.of((1,))


def test_only_tokenizers_that_part_texts_by_words_are_cut_short() -> None:
    assert parts_by_words(DEFINITION)
    bytes_joined = Tokenizer(models.BPE())
    bytes_joined.pre_tokenizer = pre_tokenizers.ByteLevel()
    bytes_joined.decoder = decoders.ByteLevel()
    assert not parts_by_words(bytes_joined.to_str())
    with_a_phrase = Tokenizer.from_str(DEFINITION)
    with_a_phrase.add_tokens(["new york"])
    assert not parts_by_words(with_a_phrase.to_str())


@pytest.mark.parametrize(
    ("text", "tokens", "truncated"),
    [
        (" " * 5000 + "a great film", 5, False),
        ("a" + "\u00a0 " * 3000 + "great film", 5, False),
        ("a great film" + "\n" * 5000, 5, False),
        ("a great film" + "\n" * 90_000, 5, False),
        ("a great film" + "\n" * 90_000 + "or not", 5, True),
        ("a " * 5000, 128, True),
        ("a  " * 5000, 128, True),
    ],
)
@pytest.mark.parametrize("pair", [None, "so"])
def test_spaces_cost_no_text_its_words(
    text: str,
    tokens: int,
    truncated: bool,  # noqa: FBT001
    pair: str | None,
) -> None:
    (found,) = BY_WORDS[128].encode([(text, pair)])
    assert (len(found), found.truncated) == (min(128, tokens + 2 * (pair is not None)), truncated)
