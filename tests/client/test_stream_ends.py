"""How streams end: by the server, by the caller's own texts, and by who leaves early."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from service import PATIENCE, word_service
from streaming import StreamsAlone

from offramp.client import AsyncClient, Client, UnavailableError
from offramp.v1 import classification_pb2 as pb
from offramp.v1 import classifier_service_pb2 as service_pb
from offramp.v1.classifier_service_pb2_grpc import add_ClassifierServiceServicer_to_server

ANSWERS = 5


class Leaving(StreamsAlone):
    """Answers the first texts of a stream, one by one, and leaves."""

    async def StreamClassifyText(  # type: ignore[override]  # noqa: N802
        self,
        request_iterator: AsyncIterator[service_pb.StreamClassifyTextRequest],
        context: "grpc.aio.ServicerContext[object, service_pb.StreamClassifyTextResponse]",
    ) -> None:
        left = ANSWERS
        async for request in request_iterator:
            for one in request.inputs[:left]:
                outcome = pb.ClassifyResult(classification=pb.Classification(label="yes"))
                found = service_pb.CorrelatedResult(
                    correlation_id=one.correlation_id, result=outcome
                )
                await context.write(service_pb.StreamClassifyTextResponse(results=[found]))
                left -= 1
            if not left:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "leaves")


@asynccontextmanager
async def leaving() -> AsyncGenerator[AsyncClient]:
    server = grpc.aio.server()
    add_ClassifierServiceServicer_to_server(Leaving(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with AsyncClient(f"127.0.0.1:{port}") as client:
        yield client
    await server.stop(None)


async def test_a_slow_reader_of_a_stream_that_the_server_ends_has_all_answers() -> None:
    """And why it ended, although the client could not send then."""
    stopped = asyncio.Event()

    async def texts() -> AsyncIterator[str]:
        try:
            for _ in range(ANSWERS):
                yield "fine"
            while True:  # until one can't be sent
                await asyncio.sleep(0.002)
                yield "fine"
        finally:
            stopped.set()

    async with leaving() as client:
        answers = client.classify_many(texts())
        assert (await anext(answers)).index == 0
        await asyncio.wait_for(stopped.wait(), PATIENCE)
        assert [(await anext(answers)).index for _ in range(1, ANSWERS)] == [1, 2, 3, 4]
        with pytest.raises(UnavailableError, match="leaves"):
            await anext(answers)


async def test_texts_are_read_no_further_once_the_server_has_left() -> None:
    """Here it is while they wait, so that nothing was being sent."""
    gone, closed = asyncio.Event(), asyncio.Event()

    async def texts() -> AsyncIterator[str]:
        try:
            for _ in range(ANSWERS):
                yield "fine"
            await gone.wait()
        finally:
            closed.set()

    async with leaving() as client:
        with pytest.raises(UnavailableError, match="leaves"):
            [answer async for answer in client.classify_many(texts())]
    assert closed.is_set()


class OwnError(grpc.RpcError):
    """Of another service that the caller's texts come from."""


OWN = [
    OwnError("a row of the caller's"),
    grpc.aio.AioRpcError(
        grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), grpc.aio.Metadata(), "the caller's", None
    ),
    asyncio.InvalidStateError("the caller's"),
    LookupError("no more"),
]


@pytest.mark.parametrize("error", OWN, ids=lambda error: type(error).__name__)
async def test_an_error_of_the_callers_texts_comes_out_unchanged(
    error: Exception, tmp_path: Path
) -> None:
    def texts() -> Iterator[str]:
        yield "easy"
        raise error

    async def later() -> AsyncIterator[str]:
        for text in texts():
            yield text

    async with word_service(tmp_path) as service:
        for given in (texts(), later()):
            answers = service.client.classify_many(given)
            assert (await anext(answers)).label == "yes"
            with pytest.raises(type(error)) as raised:
                await anext(answers)
            assert raised.value is error

        def program() -> None:
            with Client(service.address) as client:
                answers = client.classify_many(texts())
                assert next(answers).label == "yes"
                with pytest.raises(type(error)) as raised:
                    next(answers)
                assert raised.value is error

        await asyncio.to_thread(program)


async def test_texts_have_cleaned_up_when_their_stream_is_closed(tmp_path: Path) -> None:
    log = list[str]()

    async def texts() -> AsyncGenerator[str]:
        try:
            yield "easy"
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)  # something that takes several turns of the loop
            log.append("cleaned up")
            raise
        finally:
            log.append("closed")

    async with word_service(tmp_path) as service, aclosing(texts()) as own:
        async with aclosing(service.client.classify_many(own)) as answers:
            assert (await anext(answers)).index == 0
        assert log == ["cleaned up", "closed"]


async def test_texts_that_go_on_when_they_are_cancelled_are_left(tmp_path: Path) -> None:
    async def texts() -> AsyncIterator[str]:
        while True:
            yield "easy"
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    async with word_service(tmp_path) as service, asyncio.timeout(PATIENCE):
        answers = service.client.classify_many(texts())
        assert (await anext(answers)).index == 0
        await answers.aclose()
