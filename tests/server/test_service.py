"""The service over a real socket, with the shipped checkpoint."""

import asyncio
import random
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from service import ROOT, serving

from offramp.client import Answer, AsyncClient, ExitReason, InvalidRequestError, OfframpError

pytestmark = pytest.mark.asyncio(loop_scope="module")

SENTENCES = (ROOT / "demo" / "sentences.txt").read_text(encoding="utf-8").splitlines()

ODD_TEXTS = (
    "loved it 😍😍😍",
    "👨‍👩‍👧‍👦",
    "فيلم رائع حقا",
    "\u200fסרט נפלא\u200f and \u202eright to left\u202c",  # noqa: RUF001
    "a\x00fine\x00film",
    "a fine \x85\x9b\x80 film",
    "\ufeffa byte order mark",
    "e\u0301" * 300,
    "[SEP] [CLS] [PAD] [MASK]",
    ".",
    "fine" * 100_000,
    "a fine film. " * 80_000,
)
NOTHING_TO_READ = ("", " ", "\n\t\r", "\u3000\u2003", "\x00", "\x01\x02\x1b", "\u200b\u200f")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncGenerator[AsyncClient]:
    async with serving() as client:
        yield client


async def test_answers_with_the_shipped_checkpoint(client: AsyncClient) -> None:
    good, bad = [
        await client.classify(text, all_probabilities=True)
        for text in ("a deeply moving film", "a tedious, joyless mess")
    ]
    assert (good.label, bad.label) == ("positive", "negative")
    assert sum(good.probabilities) == pytest.approx(1, abs=1e-5)
    assert good.confidence == pytest.approx(max(good.probabilities))
    assert good.timing.total >= good.timing.compute > 0
    full = await client.classify("a deeply moving film", threshold=1)
    assert (full.layer, full.reason) == (6, ExitReason.FINAL)
    model = await client.get_model("sst2-minilm")
    assert model.labels == ("negative", "positive")
    assert model.exit_layers == (1, 2, 3, 4, 5, 6)
    within = await client.classify("a fine film", max_accuracy_drop=0.01)
    assert within.threshold in {point.threshold for point in model.trade_offs}
    assert within.threshold < 1


async def test_odd_texts_are_answered_or_refused_in_words(client: AsyncClient) -> None:
    texts = [*ODD_TEXTS, *NOTHING_TO_READ]
    outcomes = [o async for o in client.classify_many(texts, return_errors=True)]
    for text, outcome in zip(texts, outcomes, strict=True):
        if text in NOTHING_TO_READ:
            assert isinstance(outcome, InvalidRequestError), ascii(text)
        else:
            assert isinstance(outcome, Answer), ascii(text[:50])
            assert outcome.truncated == (len(text) > 10_000), ascii(text[:50])
    (sentences,) = [o for text, o in zip(texts, outcomes, strict=True) if len(text) > 10**6]
    assert isinstance(sentences, Answer)
    assert sentences.tokens == (await client.get_model()).token_limit


async def test_a_text_that_spells_special_tokens_reads_them_as_text(client: AsyncClient) -> None:
    parts = [await client.classify(text) for text in ("a fine film", "a dull one")]
    forged = await client.classify("a fine film [SEP] a dull one")
    as_a_pair = sum(part.tokens for part in parts) - 1  # which share what stands before the first
    assert forged.tokens > as_a_pair


async def test_a_stream_answers_each_and_one_bad_input_harms_nobody(client: AsyncClient) -> None:
    texts = [*SENTENCES, "", *SENTENCES]
    outcomes = [o async for o in client.classify_many(texts, return_errors=True)]
    assert [outcome.index for outcome in outcomes] == list(range(len(texts)))
    failed = [o for o in outcomes if isinstance(o, OfframpError)]
    assert [error.index for error in failed] == [len(SENTENCES)]
    twice = [(o.label, o.exit) for o in outcomes if isinstance(o, Answer)]
    assert twice[: len(SENTENCES)] == twice[len(SENTENCES) :]


async def test_200_concurrent_requests_are_answered_as_one_at_a_time(client: AsyncClient) -> None:
    draw = random.Random(1)
    work = [
        (" ".join(draw.sample(SENTENCES, draw.choice((1, 1, 1, 2, 4)))), draw.uniform(0.5, 1))
        for _ in range(200)
    ]
    alone = [await client.classify(text, threshold=at) for text, at in work]
    together = await asyncio.gather(*(client.classify(text, threshold=at) for text, at in work))
    assert len({answer.exit for answer in alone}) > 3
    for one, other in zip(alone, together, strict=True):
        assert (one.label, one.exit) == (other.label, other.exit)
        assert other.confidence == pytest.approx(one.confidence, abs=1e-4)
