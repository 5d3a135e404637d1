"""Sends texts when they are due, whatever became of those before, and notes what each one took."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from offramp.cli.load.target import Reply, Target


@dataclass(frozen=True, slots=True)
class Sample:
    """One message: times in seconds from the start, the reply or the name of the error.

    Latency counts from when it was due, so neither a stalled server nor a late generator hides.
    """

    due: float
    sent: float
    done: float
    reply: Reply | None
    error: str = ""

    @property
    def latency(self) -> float:
        """Seconds from due to done."""
        return self.done - self.due


async def open_loop(target: Target, texts: Sequence[str], due: Sequence[float]) -> list[Sample]:
    """One message a due time; the texts go round. Returns when all are done."""
    loop = asyncio.get_running_loop()
    start = time.perf_counter()
    tasks: list[asyncio.Task[Sample]] = []
    for at, text in zip(due, itertools.cycle(texts)):
        if (wait := start + at - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(loop.create_task(_one(target, text, start, at)))
    return list(await asyncio.gather(*tasks))


async def closed_loop(
    target: Target,
    texts: Sequence[str],
    in_flight: int,
    seconds: float,
    most: int | None = None,
) -> list[Sample]:
    """Keep `in_flight` messages under way: for saturation and, with one, for the bare latency.

    With `most` no more than so many are sent, the same ones whatever the server's pace.
    """
    start = time.perf_counter()
    source = itertools.islice(itertools.cycle(texts), most)
    samples: list[Sample] = []

    async def worker() -> None:
        for text in source:
            if (now := time.perf_counter() - start) >= seconds:
                return
            samples.append(await _one(target, text, start, now))

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return samples


async def open_loop_stream(
    target: Target, texts: Sequence[str], due: Sequence[float], streams: int = 1
) -> list[Sample]:
    """The same over long-lived streams, which take turns; ValueError if the target has none."""
    start = time.perf_counter()
    source = list(zip(due, itertools.cycle(texts)))
    shares = [source[index::streams] for index in range(streams)]
    parts = await asyncio.gather(*(_stream(target, share, start) for share in shares if share))
    return sorted(itertools.chain(*parts), key=lambda sample: sample.due)


async def saturated_stream(
    target: Target, texts: Sequence[str], seconds: float, streams: int = 1
) -> list[Sample]:
    """Streams that are never short of texts; the client's window bounds what is under way."""
    start = time.perf_counter()
    parts = await asyncio.gather(
        *(_stream(target, _while(texts, start, seconds), start) for _ in range(streams))
    )
    return sorted(itertools.chain(*parts), key=lambda sample: sample.due)


def _while(texts: Sequence[str], start: float, seconds: float) -> Iterator[tuple[float, str]]:
    for text in itertools.cycle(texts):
        if (now := time.perf_counter() - start) >= seconds:
            return
        yield now, text


async def _one(target: Target, text: str, start: float, due: float) -> Sample:
    sent = time.perf_counter() - start
    reply, error = None, ""
    try:
        reply = await target.classify(text)
    except Exception as failure:  # noqa: BLE001 - whatever a server or its client raises is counted
        error = type(failure).__name__
    return Sample(due, sent, time.perf_counter() - start, reply, error)


async def _stream(
    target: Target, source: Sequence[tuple[float, str]] | Iterator[tuple[float, str]], start: float
) -> list[Sample]:
    sent: list[tuple[float, float]] = []
    done: dict[int, Sample] = {}
    ended = ""
    left_to_send = iter(source)

    async def feed() -> AsyncIterator[str]:
        for at, text in left_to_send:
            if (wait := start + at - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            sent.append((at, time.perf_counter() - start))
            yield text

    try:
        async with aclosing(target.classify_many(feed())) as replies:  # type: ignore[type-var]
            async for index, reply in replies:
                now = time.perf_counter() - start
                good = None if isinstance(reply, Exception) else reply
                error = type(reply).__name__ if good is None else ""
                due, left = sent[index]
                done[index] = Sample(due, left, now, good, error)
    except NotImplementedError as error:
        raise ValueError(f"this target has no streams ({error}); leave out --stream") from error
    except Exception as failure:  # noqa: BLE001 - a broken stream fails all that it still held
        ended = type(failure).__name__
        if isinstance(source, Sequence):  # and all that was still to come
            sent += [(due, max(due, time.perf_counter() - start)) for due, _ in left_to_send]
    now = time.perf_counter() - start
    for index, (due, left) in enumerate(sent):
        done.setdefault(index, Sample(due, left, max(left, now), None, ended or "NoReply"))
    return [done[index] for index in sorted(done)]
