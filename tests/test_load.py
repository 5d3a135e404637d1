"""The load generator: when things are due, what is sent and counted; a real server."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from service import word_service

from offramp.cli.load.arrivals import Pattern, arrivals, read_trace
from offramp.cli.load.report import summarize
from offramp.cli.load.run import closed_loop, open_loop, open_loop_stream, saturated_stream
from offramp.cli.load.target import InTurn, OfframpTarget, Reply, adapter
from offramp.client import Options


class Echo:
    """Answers at once; the text `bad` fails, alone or in a stream."""

    def __init__(self, address: str = "") -> None:
        self.address = address
        self.held = self.most_held = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    async def classify(self, text: str) -> Reply:
        self.held += 1
        self.most_held = max(self.held, self.most_held)
        await asyncio.sleep(0)
        self.held -= 1
        if text == "bad":
            raise LookupError
        return Reply(text, len(text), 1)

    async def classify_many(
        self, texts: AsyncIterator[str]
    ) -> AsyncIterator[tuple[int, Reply | Exception]]:
        index = 0
        async for text in texts:
            if text == "end":
                raise ConnectionError
            yield index, LookupError() if text == "bad" else Reply(text)
            index += 1


@pytest.mark.parametrize("pattern", list(Pattern))
def test_arrivals_have_their_rate_and_a_burst_its_contrast(pattern: Pattern) -> None:
    due = arrivals(pattern, 100.0, 200.0)
    assert due == sorted(due)
    assert due == arrivals(pattern, 100.0, 200.0)
    assert due[0] >= 0
    assert due[-1] < 200
    assert len(due) == pytest.approx(20_000, rel=0.15)
    counts = [0] * 2000
    for at in due:
        counts[int(at * 10)] += 1
    mean = sum(counts) / len(counts)
    dispersion = sum((count - mean) ** 2 for count in counts) / len(counts) / mean
    assert (dispersion > 3) is (pattern is Pattern.BURSTY)


@given(st.integers(0, 10**6), st.floats(10.0, 500.0))
def test_a_bursty_run_has_its_rate_however_its_phases_fall(seed: int, rate: float) -> None:
    wanted = 5.0 * rate
    assert abs(len(arrivals(Pattern.BURSTY, rate, 5.0, seed)) - wanted) < 6 * wanted**0.5 + 6


def test_traces(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text("[3.5, 1, 2]")
    assert read_trace(trace) == [0, 1, 2.5]
    trace.write_text("10\n10.25\n")
    assert read_trace(trace) == [0, 0.25]
    trace.write_text("soon")
    with pytest.raises(ValueError, match="is no trace"):
        read_trace(trace)
    with pytest.raises(ValueError, match="must be positive"):
        arrivals(Pattern.POISSON, 0, 1)


async def test_every_message_is_counted_errors_too() -> None:
    samples = await open_loop(Echo(), ["one", "bad", "three"], [0, 0, 0.01, 0.01, 0.02])
    assert [sample.error for sample in samples] == ["", "LookupError", "", "", "LookupError"]
    assert all(sample.done >= sample.sent >= sample.due for sample in samples)
    summary = summarize(samples)
    assert (summary.messages, summary.answered, summary.errors) == (5, 3, {"LookupError": 2})
    assert summary.exits == {3: 2, 5: 1}
    assert (summary.p50 < inf, summary.p90, summary.longest < inf) == (True, inf, True)
    assert summary.to_dict()["p90"] is None


def test_nothing_is_sent_before_it_is_due() -> None:
    due = [at / 1000 + 0.0004 for at in range(50)]
    for samples in (
        uvloop.run(open_loop(Echo(), ["text"], due)),
        uvloop.run(open_loop_stream(Echo(), ["text"], due)),
    ):
        assert len(samples) == 50
        assert all(sample.sent >= sample.due for sample in samples)


async def test_latency_counts_from_due_when_the_server_stalls_the_generator() -> None:
    class Stalls(Echo):
        async def classify(self, text: str) -> Reply:
            time.sleep(0.05)  # noqa: ASYNC251 - it holds up the generator itself
            return await super().classify(text)

    samples = await open_loop(Stalls(), ["text"], [0.0, 0.001, 0.002])
    assert samples[2].latency > 0.1
    assert samples[2].sent > 0.09


async def test_a_closed_loop_keeps_so_many_under_way() -> None:
    echo = Echo()
    samples = await closed_loop(echo, ["a", "b"], 5, inf, most=20)
    assert (echo.most_held, len(samples)) == (5, 20)


async def test_a_load_whose_time_is_over_sends_no_more() -> None:
    assert await closed_loop(Echo(), ["a"], 5, 0.0, most=20) == []
    assert await saturated_stream(Echo(), ["end"], 0.0) == []


async def test_connections_take_turns() -> None:
    echoes = [Echo(), Echo(), Echo()]
    async with InTurn(echoes) as target:
        await closed_loop(target, ["a"], 6, inf, most=60)
        assert [echo.most_held for echo in echoes] == [2, 2, 2]
        samples = await saturated_stream(target, ["a", "a", "end"], inf, 3)
    assert Counter(sample.error for sample in samples) == {"": 6, "ConnectionError": 3}


async def test_one_by_one_means_the_same_texts_whatever_the_pace() -> None:
    samples = await closed_loop(Echo(), ["a", "b"], 1, 60.0, most=5)
    assert [sample.reply and sample.reply.label for sample in samples] == ["a", "b", "a", "b", "a"]


class Cut(Echo):
    """A server whose stream breaks while its next text is not due yet."""

    async def classify_many(
        self, texts: AsyncIterator[str]
    ) -> AsyncIterator[tuple[int, Reply | Exception]]:
        async for text in texts:
            yield 0, Reply(text)
            coming = asyncio.ensure_future(anext(texts))
            await asyncio.sleep(0.02)
            coming.cancel()
            raise ConnectionError


async def test_a_broken_stream_fails_what_was_still_due() -> None:
    samples = await open_loop_stream(Echo(), ["a", "end", "c"], [0.0, 0.01, 0.02, 0.03, 60.0])
    assert [sample.error for sample in samples] == ["", *["ConnectionError"] * 4]
    assert [sample.due for sample in samples] == [0.0, 0.01, 0.02, 0.03, 60.0]
    late = await open_loop_stream(Cut(), ["a"], [0.0, 60.0, 61.0])
    assert [(sample.due, sample.error) for sample in late] == [
        (0.0, ""),
        (60.0, "ConnectionError"),
        (61.0, "ConnectionError"),
    ]
    assert all(sample.latency >= 0 for sample in samples)


async def test_streams_take_turns_and_a_broken_one_fails_what_it_held() -> None:
    samples = await open_loop_stream(Echo(), ["a", "bad", "c"], [0.0, 0.0, 0.0, 0.01], streams=2)
    assert [sample.reply and sample.reply.label for sample in samples] == ["a", "c", None, "a"]
    broken = await open_loop_stream(Echo(), ["a", "end"], [0.0, 0.0])
    assert [sample.error for sample in broken] == ["", "ConnectionError"]


class Last(Echo):
    """A server that answers what came last first, once it has all, or that alone."""

    def __init__(self, answers: int | None = None) -> None:
        super().__init__()
        self.answers = answers

    async def classify_many(
        self, texts: AsyncIterator[str]
    ) -> AsyncIterator[tuple[int, Reply | Exception]]:
        known = [text async for text in texts]
        for index in list(reversed(range(len(known))))[: self.answers]:
            yield index, Reply(known[index])


async def test_a_streams_replies_are_of_their_texts_in_whatever_order_they_come() -> None:
    samples = await open_loop_stream(Last(), ["a", "b"], [0.0, 0.02, 0.04])
    assert [sample.due for sample in samples] == [0.0, 0.02, 0.04]
    assert [sample.reply and sample.reply.label for sample in samples] == ["a", "b", "a"]
    times = [sample.sent for sample in samples]
    assert times == sorted(times)
    assert times[-1] <= min(sample.done for sample in samples)


async def test_what_a_stream_leaves_unanswered_is_told() -> None:
    samples = await open_loop_stream(Last(answers=1), ["a"], [0.0, 0.0, 0.01])
    assert [sample.error for sample in samples] == ["NoReply", "NoReply", ""]


def test_adapters_are_named_module_and_callable() -> None:
    made = adapter(f"{__name__}:Echo" if __name__ != "__main__" else "", "host:1")
    assert type(made).__name__ == "Echo"
    for name in ("nothing", "no_such_module:x", "json:x"):
        with pytest.raises(ValueError, match="adapter"):
            adapter(name, "host:1")


async def test_a_real_server_unary_and_stream(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service:
        target = OfframpTarget(service.address, 30.0, Options(threshold=0.85))
        async with target:
            unary = await open_loop(target, ["easy", "film"], [0.0, 0.01, 0.02, 0.03])
            stream = await open_loop_stream(target, ["easy", "film"], [0.0, 0.01, 0.02])
    for samples in (unary, stream):
        exits = [sample.reply.exit for sample in samples if sample.reply]
        assert exits == [0, 2, 0, 2][: len(samples)]
