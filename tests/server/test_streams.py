"""Streams: replies in order of completion, a window, and nothing left behind by who leaves."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from service import WordService, eventually, word_service
from wire import Wire, streamed, unary, wire

from offramp.client import Answer, OfframpError
from offramp.server.config import Limits
from offramp.server.stream import LONGEST_ID


async def test_replies_come_as_inputs_finish(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service, wire(service.address) as raw:
        plug = asyncio.ensure_future(raw.classifier.ClassifyText(unary("plug")))
        await service.backend.is_plugged()
        call = raw.classifier.StreamClassifyText()  # type: ignore[call-arg]
        await call.write(streamed([("deep", "hard hard"), ("shallow", "easy")]))
        await eventually(lambda: service.held[0] == 2)
        service.backend.unplug()
        await plug
        await call.done_writing()
        order = [result.correlation_id async for message in call for result in message.results]
        assert order == ["shallow", "deep"]


async def test_the_client_gives_answers_in_order_or_as_they_come(tmp_path: Path) -> None:
    texts = ["plug", "hard", "easy", "hard", "easy"]
    async with word_service(tmp_path) as service:
        for ordered in (True, False):
            answers = service.client.classify_many(texts, ordered=ordered)
            collected = asyncio.ensure_future(collect(answers))
            if ordered:
                await service.backend.is_plugged()
                await eventually(lambda: sum(service.held) == 5)
                service.backend.unplug()
            exits = dict(await collected)
            assert sorted(exits) == list(range(5))
            assert exits[2] == exits[4] == 0
            assert exits[1] == exits[3] == 2
            if ordered:
                assert list(exits) == list(range(5))


async def collect(answers: AsyncIterator[Answer]) -> list[tuple[int, int]]:
    return [(answer.index, answer.exit) async for answer in answers]


async def test_the_server_reads_no_further_than_its_window(tmp_path: Path) -> None:
    async with (
        word_service(tmp_path, Limits(slots=2), stream_window=4) as service,
        wire(service.address) as raw,
    ):
        call = raw.classifier.StreamClassifyText()  # type: ignore[call-arg]
        await call.write(streamed([("plug", "plug")]))
        await service.backend.is_plugged()
        for name in range(100):
            await call.write(streamed([(str(name), "fine")]))
        await eventually(lambda: sum(service.held) == 4)
        for _ in range(20):  # round trips enough for a fifth to come, were it read
            await service.client.list_models()
        assert sum(service.held) == 4
        service.backend.unplug()
        await call.done_writing()
        assert len([r async for message in call for r in message.results]) == 101


async def test_an_id_without_end_fails_its_input_alone(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service, wire(service.address) as raw:
        call = raw.classifier.StreamClassifyText()  # type: ignore[call-arg]
        just, over = "a" * LONGEST_ID, "b" * (LONGEST_ID + 1)
        await call.write(streamed([("first", "fine"), (over, "fine"), (just, "fine")]))
        await call.done_writing()
        found = {
            result.correlation_id: result.result
            async for message in call
            for result in message.results
        }
        assert set(found) == {"first", just, over[:LONGEST_ID]}
        refused = found.pop(over[:LONGEST_ID]).error
        assert refused.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert refused.message.startswith("correlation_id: has 257 characters, at most 256")
        assert all(result.HasField("classification") for result in found.values())


async def test_a_full_queue_makes_a_stream_wait_and_refuses_nothing(tmp_path: Path) -> None:
    limits = Limits(slots=1, max_batch_rows=1, max_queue_requests=1)
    async with word_service(tmp_path, limits) as service:
        answers = service.client.classify_many(["plug"] + ["fine"] * 50)
        collected = asyncio.ensure_future(collect(answers))
        await service.backend.is_plugged()
        service.backend.unplug()
        assert len(await collected) == 51


def stream_tasks() -> list[str]:
    """Names of the coroutines of streams, at the client and at the server."""
    names = [str(getattr(task.get_coro(), "__qualname__", "")) for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith(("StreamSession", "_send"))]


@pytest.mark.parametrize("running", [True, False])
async def test_who_abandons_a_stream_leaves_nothing_behind(
    tmp_path: Path, *, running: bool
) -> None:
    first = asyncio.Event()

    async def endless() -> AsyncIterator[str]:
        yield "easy"
        await first.wait()
        while True:
            yield "plug" if running else "hard"
            await asyncio.sleep(0)

    async with word_service(tmp_path) as service:
        answers = service.client.classify_many(endless())
        assert (await anext(answers)).index == 0
        assert stream_tasks()
        first.set()
        if running:
            await service.backend.is_plugged()
        await answers.aclose()
        await eventually(lambda: not stream_tasks() and service.held[0] == 0)
        service.backend.unplug()  # only now: what was not cancelled would end by itself
        await eventually(lambda: service.scheduler.idle and service.held == (0, 0))
        if running:
            assert service.backend.batches[-1].stage == 0  # the step that was under way
        assert (await service.client.classify("easy")).label == "yes"


async def test_a_text_of_a_stream_has_its_own_time_of_arrival(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service, wire(service.address) as raw:
        call = raw.classifier.StreamClassifyText()  # type: ignore[call-arg]
        for name in ("first", "second"):
            await call.write(streamed([(name, "easy")]))
            await call.read()
        await call.done_writing()
        first, second = [batch.requests[0].arrived for batch in service.backend.batches]
        assert first < second


async def test_an_iterable_that_raises_ends_the_stream_after_what_it_gave(tmp_path: Path) -> None:
    def broken() -> Iterator[str]:
        yield "easy"
        raise LookupError("no more")

    async with word_service(tmp_path) as service:
        answers = service.client.classify_many(broken())
        assert (await anext(answers)).label == "yes"
        with pytest.raises(LookupError, match="no more"):
            await anext(answers)


async def test_what_cannot_be_sent_fails_in_its_place(tmp_path: Path) -> None:
    texts = ["easy", "lone \udc80 surrogate", "x" * 5_000_000, "easy"]
    async with word_service(tmp_path) as service:
        outcomes = [o async for o in service.client.classify_many(texts, return_errors=True)]
        assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3]
        unicode, length = outcomes[1:3]
        assert isinstance(unicode, OfframpError)
        assert isinstance(length, OfframpError)
        assert "not UTF-8" in str(unicode)
        assert "5000" in str(length)


async def cancelled_in_its_step(service: WordService, raw: Wire) -> None:
    call = raw.classifier.ClassifyText(unary("plug"))
    waiting = asyncio.ensure_future(call)
    await service.backend.is_plugged()
    assert service.held == (0, 1)
    call.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_cancelled_call_frees_its_slot_at_the_stage_boundary(tmp_path: Path) -> None:
    async with (
        word_service(tmp_path, Limits(slots=1)) as service,
        wire(service.address) as raw,
    ):
        await cancelled_in_its_step(service, raw)
        waiting = asyncio.ensure_future(raw.classifier.ClassifyText(unary("easy")))
        await eventually(lambda: service.held == (1, 1))
        service.backend.unplug()
        assert (await waiting).results[0].classification.exit.index == 0
        assert service.held == (0, 0)
        assert [batch.stage for batch in service.backend.batches] == [0, 0]
