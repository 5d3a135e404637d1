"""The service over a real socket, with the shipped checkpoint."""

import asyncio
import random

import pytest
from service import ROOT, serving

from offramp.client import (
    Answer,
    DeadlineExceededError,
    ExitReason,
    InvalidRequestError,
    ModelNotFoundError,
    OfframpError,
    OverloadedError,
)

SENTENCES = (ROOT / "demo" / "sentences.txt").read_text(encoding="utf-8").splitlines()


async def test_answers_options_and_errors() -> None:
    async with serving() as client:
        good, bad = [
            await client.classify(text, all_probabilities=True)
            for text in ("a deeply moving film", "a tedious, joyless mess")
        ]
        assert (good.label, bad.label) == ("positive", "negative")
        assert sum(good.probabilities) == pytest.approx(1, abs=1e-5)
        full = await client.classify("a deeply moving film", threshold=1)
        assert (full.layer, full.reason) == (6, ExitReason.FINAL)
        limited = await client.classify("hardly the best", threshold=1, max_exit=1)
        assert (limited.exit, limited.reason) == (1, ExitReason.LIMIT)
        model = await client.get_model()
        within = await client.classify("a fine film", max_accuracy_drop=0.01)
        assert within.threshold in {point.threshold for point in model.trade_offs}
        long = await client.classify("very " * 5000 + "good")
        assert long.truncated
        assert long.tokens == model.token_limit
        with pytest.raises(InvalidRequestError, match="empty"):
            await client.classify("  ")
        with pytest.raises(InvalidRequestError, match="min_exit"):
            await client.classify("x", min_exit=9)
        with pytest.raises(ModelNotFoundError):
            await client.classify("x", model="other")
        # Refused by the server or given up by the client: which is first is a matter of timing.
        with pytest.raises((OverloadedError, DeadlineExceededError), match=r"[Dd]eadline"):
            await client.classify("x", timeout=0.002)


async def test_a_stream_answers_each_and_one_bad_input_harms_nobody() -> None:
    texts = [*SENTENCES, "", *SENTENCES]
    async with serving() as client:
        outcomes = [o async for o in client.classify_many(texts, return_errors=True)]
        assert [outcome.index for outcome in outcomes] == list(range(len(texts)))
        failed = [o for o in outcomes if isinstance(o, OfframpError)]
        assert [error.index for error in failed] == [len(SENTENCES)]


async def test_200_concurrent_requests_are_answered_as_one_at_a_time() -> None:
    draw = random.Random(1)
    work = [
        (" ".join(draw.sample(SENTENCES, draw.choice((1, 1, 1, 2, 4)))), draw.uniform(0.5, 1))
        for _ in range(200)
    ]
    async with serving() as client:
        alone = [await client.classify(text, threshold=at) for text, at in work]
        together = await asyncio.gather(*(client.classify(text, threshold=at) for text, at in work))
    assert len({answer.exit for answer in alone}) > 3
    for one, other in zip(alone, together, strict=True):
        assert (one.label, one.exit) == (other.label, other.exit)


async def test_a_cancelled_call_leaves_the_server_serving() -> None:
    async with serving() as client:
        calls = [asyncio.create_task(client.classify(text, threshold=1)) for text in SENTENCES]
        await asyncio.sleep(0.01)
        for call in calls[::2]:
            call.cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(outcome, Answer) for outcome in outcomes[1::2])
        assert (await client.classify("still here")).label
