"""Sends texts when they are due, whatever became of those before, and notes what each one took.

Where a list of `samples` is given, each is put there as it is done: whoever is interrupted has
those until then.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeVar

from offramp.cli.load.target import Reply, Target

Input = TypeVar("Input")


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


async def open_loop(
    target: Target[Input],
    texts: Sequence[Input],
    due: Sequence[float],
    samples: list[Sample] | None = None,
) -> list[Sample]:
    """One message a due time; the texts go round. Returns when all are done."""
    start = time.perf_counter()
    done = [] if samples is None else samples
    async with asyncio.TaskGroup() as messages:  # whoever is interrupted interrupts them all
        for at, text in zip(due, itertools.cycle(texts)):
            await _until(start + at)
            messages.create_task(_one(target, text, start, at, done))
    return sorted(done, key=attrgetter("due"))


async def closed_loop(
    target: Target[Input],
    texts: Sequence[Input],
    in_flight: int,
    seconds: float,
    most: int | None = None,
    samples: list[Sample] | None = None,
) -> list[Sample]:
    """Keep `in_flight` messages under way: for saturation and, with one, for the bare latency.

    With `most` no more than so many are sent, the same ones whatever the server's pace.
    """
    start = time.perf_counter()
    source = itertools.islice(itertools.cycle(texts), most)
    done = [] if samples is None else samples

    async def worker() -> None:
        for text in source:
            if (now := time.perf_counter() - start) >= seconds:
                return
            await _one(target, text, start, now, done)

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return done


async def open_loop_stream(
    target: Target[Input],
    texts: Sequence[Input],
    due: Sequence[float],
    streams: int = 1,
    samples: list[Sample] | None = None,
) -> list[Sample]:
    """The same over long-lived streams, which take turns; ValueError if the target has none."""
    start = time.perf_counter()
    source = list(zip(due, itertools.cycle(texts)))
    shares = [source[index::streams] for index in range(streams)]
    done = [] if samples is None else samples
    await asyncio.gather(*(_stream(target, share, start, done) for share in shares if share))
    return sorted(done, key=attrgetter("due"))


async def saturated_stream(
    target: Target[Input],
    texts: Sequence[Input],
    seconds: float,
    streams: int = 1,
    samples: list[Sample] | None = None,
) -> list[Sample]:
    """Streams that are never short of texts; the client's window bounds what is under way."""
    start = time.perf_counter()
    done = [] if samples is None else samples
    await asyncio.gather(
        *(_stream(target, _while(texts, start, seconds), start, done) for _ in range(streams))
    )
    return sorted(done, key=attrgetter("due"))


def _while(texts: Sequence[Input], start: float, seconds: float) -> Iterator[tuple[float, Input]]:
    for text in itertools.cycle(texts):
        if (now := time.perf_counter() - start) >= seconds:
            return
        yield now, text


async def _until(due: float) -> None:
    """Sleep until then and not a moment less: uvloop's timers are of whole milliseconds."""
    while (wait := due - time.perf_counter()) > 0:  # noqa: ASYNC110 - for time, no event
        await asyncio.sleep(wait)


async def _one(
    target: Target[Input], text: Input, start: float, due: float, samples: list[Sample]
) -> None:
    sent = time.perf_counter() - start
    reply, error = None, ""
    try:
        reply = await target.classify(text)
    except Exception as failure:  # noqa: BLE001 - whatever a server or its client raises is counted
        error = type(failure).__name__
    samples.append(Sample(due, sent, time.perf_counter() - start, reply, error))


async def _stream(
    target: Target[Input],
    source: Sequence[tuple[float, Input]] | Iterator[tuple[float, Input]],
    start: float,
    samples: list[Sample],
) -> None:
    sent: list[tuple[float, float]] = []
    replied: set[int] = set()
    ended = "NoReply"

    async def feed() -> AsyncIterator[Input]:
        for at, text in source:
            await _until(start + at)
            sent.append((at, time.perf_counter() - start))
            yield text

    try:
        async with aclosing(target.classify_many(feed())) as replies:  # type: ignore[type-var]
            async for index, reply in replies:
                now = time.perf_counter() - start
                good = None if isinstance(reply, Exception) else reply
                error = type(reply).__name__ if good is None else ""
                due, left = sent[index]
                replied.add(index)
                samples.append(Sample(due, left, now, good, error))
    except NotImplementedError as error:
        raise ValueError(f"this target has no streams ({error}); leave out --stream") from error
    except Exception as failure:  # noqa: BLE001 - a broken stream fails all that it still held
        ended = type(failure).__name__
        if isinstance(source, Sequence):  # and all that was still to come
            now = time.perf_counter() - start
            sent += [(due, max(due, now)) for due, _ in source[len(sent) :]]
    now = time.perf_counter() - start
    for index, (due, left) in enumerate(sent):
        if index not in replied:
            samples.append(Sample(due, left, max(left, now), None, ended))
