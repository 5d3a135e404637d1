"""A text's token ids by the words it is made of: an exact short cut for BERT's tokenizers.

These normalize character by character and never join what a space parts, so the tokens of a text
are those of its words end to end. Texts are made of the same words over and over, so what the
tokenizer said of a word once is remembered, and a sentence costs a look-up a word: 4 µs where the
tokenizer takes 60. Only of printable ASCII is it beyond doubt what a space is; any other text is
the tokenizer's.
"""

import json
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tokenizers import Encoding

INT32 = "i"
"""The kind of array that token ids and types are kept in."""

MOST_WORDS = 1 << 16
"""Words remembered; when they are so many, all are forgotten."""

LONGEST_WORD, MOST_PIECES = 40, 8
"""Characters and tokens of a word that is remembered."""

FEW_NEW = 6
"""Words that are asked for one by one; a text with more that are new is quicker read whole."""

CHARACTERWISE = {"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents"}
SPACE_PARTS = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
WORDWISE = {"WordPiece", "WordLevel"}


def parts_by_words(definition: str) -> bool:
    """Whether a `tokenizer.json` gives a text the tokens of its words, end to end."""
    content: Mapping[str, Any] = json.loads(definition)
    return (
        set(_kinds(content.get("normalizer"))) <= CHARACTERWISE
        and (content.get("pre_tokenizer") or {}).get("type") in SPACE_PARTS
        and (content.get("model") or {}).get("type") in WORDWISE
        and all(token["special"] for token in content.get("added_tokens", ()))
    )


class WordMemory:
    """What the tokenizer said of words; several threads may share it."""

    def __init__(self) -> None:
        self._known: dict[str, array[int]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def ids(
        self, text: str, most: int, of_word: Callable[[str], Sequence[int]]
    ) -> "array[int] | None":
        """The text's token ids without special tokens, or None if the tokenizer must be asked.

        Of a text of over `most` tokens one or more beyond these are given, not all. A few words
        that are new are asked of `of_word`, which gives none of a word that it can't tell alone.
        """
        if not (text.isascii() and text.isprintable()):
            return None
        # A word is one token at least, so these are enough.
        words = text.split()[: most + 1]
        known, ids = self._known, array(INT32)
        try:
            for word in words:
                ids += known[word]
        except KeyError:
            return self._learned(words, of_word)
        return ids

    def _learned(
        self, words: Sequence[str], of_word: Callable[[str], Sequence[int]]
    ) -> "array[int] | None":
        """The ids of words of which some are new; None if these are many or not to be remembered.

        Of many some are learned, so that the next such text has fewer.
        """
        known = self._known
        new = list(dict.fromkeys(word for word in words if word not in known))
        if len(known) + FEW_NEW > MOST_WORDS:
            known.clear()
        found: dict[str, array[int]] = {}
        for word in new[:FEW_NEW]:
            pieces = array(INT32, of_word(word) if len(word) <= LONGEST_WORD else ())
            if not 0 < len(pieces) <= MOST_PIECES:
                return None
            known[word] = found[word] = pieces
        if len(new) > FEW_NEW:
            return None
        ids = array(INT32)
        for word in words:
            remembered = found.get(word) or known.get(word)
            if not remembered:  # forgotten meanwhile
                return None
            ids += remembered
        return ids


class Frame:
    """The special tokens around a text or two, read off an input that the tokenizer framed.

    Raises ValueError where the texts do not stand in it in their order.
    """

    def __init__(self, example: Encoding) -> None:
        order = [sequence for sequence in example.sequence_ids if sequence is not None]
        if not order or order != sorted(order):
            raise ValueError("the texts do not stand in their order")
        texts = order[-1] + 1
        ids = [array(INT32) for _ in range(texts + 1)]
        types = [array(INT32) for _ in range(texts + 1)]
        text_types = [0] * texts
        before = 0
        rows = zip(example.ids, example.type_ids, example.sequence_ids, strict=True)
        for token, kind, sequence in rows:
            if sequence is None:
                ids[before].append(token)
                types[before].append(kind)
            else:
                before = sequence + 1
                text_types[sequence] = kind
        self.specials = sum(map(len, ids))
        self._ids, self._types, self._text_types = ids, types, text_types
        self._typed = any(text_types) or any(map(any, types))

    def around(self, *texts: "array[int]") -> "tuple[array[int], array[int]]":
        """Ids and types of texts of these ids with their special tokens; no types if all are 0."""
        first, *after = self._ids
        ids = first[:]
        for text, more in zip(texts, after, strict=True):
            ids += text
            ids += more
        types = array(INT32)
        if self._typed:
            first, *after = self._types
            types += first
            for text, kind, more in zip(texts, self._text_types, after, strict=True):
                types += array(INT32, (kind,)) * len(text)
                types += more
        return ids, types


def _kinds(normalizer: Mapping[str, Any] | None) -> Iterator[str]:
    """The kinds of a normalizer, or of those in its sequence."""
    if normalizer is None:
        return
    if normalizer.get("type") == "Sequence":
        for inner in normalizer.get("normalizers", ()):
            yield from _kinds(inner)
    else:
        yield str(normalizer.get("type"))
