"""Retries are gRPC's own and obey the server: pushback says when, a negative one says never."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Never

import grpc
import grpc.aio
import pytest
from service import PATIENCE

from offramp.client import AsyncClient, OverloadedError, UnavailableError
from offramp.client.channel import RETRIES
from offramp.client.core import LONGEST_TEXT
from offramp.scheduler.errors import DeadlineUnreachableError, DrainingError, QueueFullError
from offramp.server.errors import InvalidRequestError
from offramp.server.handlers import Context, MessageLimits, gated_handler, with_status
from offramp.server.services import CLASSIFIER
from offramp.v1 import classification_pb2 as pb
from offramp.v1 import classifier_service_pb2 as service_pb
from offramp.v1.classifier_service_pb2_grpc import ClassifierServiceServicer


class ClosingError(Exception):
    """What gRPC itself says to a call that reaches a server as it closes."""


class Refusing(ClassifierServiceServicer):
    """Refuses the first calls with what it is given, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.attempts = 0

    async def ClassifyText(  # noqa: N802
        self, request: service_pb.ClassifyTextRequest, context: Context
    ) -> service_pb.ClassifyTextResponse:
        del request
        self.attempts += 1
        if self._errors:
            error = self._errors.pop(0)
            if isinstance(error, ClosingError):
                await context.abort(grpc.StatusCode.CANCELLED)
            raise error
        answer = pb.ClassifyResult(classification=pb.Classification(label="yes"))
        return service_pb.ClassifyTextResponse(results=[answer])

    def StreamClassifyText(self, request_iterator: object, context: object) -> Never:  # noqa: N802
        raise NotImplementedError


@asynccontextmanager
async def client_of(servicer: Refusing, *, retries: bool = True) -> AsyncGenerator[AsyncClient]:
    server = grpc.aio.server(options=(("grpc.max_receive_message_length", -1),))
    handler = gated_handler(CLASSIFIER, servicer, [with_status], MessageLimits(2**23, 1000))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with AsyncClient(f"127.0.0.1:{port}", retries=retries) as client:
        yield client
    await server.stop(None)


@pytest.mark.parametrize("error", [QueueFullError(0.01), DrainingError(), ClosingError()])
async def test_a_refusal_that_passes_is_not_noticed(error: Exception) -> None:
    servicer = Refusing(error, error)
    async with client_of(servicer) as client:
        assert (await client.classify("fine")).label == "yes"
    assert servicer.attempts == 3


@pytest.mark.parametrize("size", [300_000, LONGEST_TEXT - 10])
async def test_a_long_text_is_retried_as_others_are(size: int) -> None:
    servicer = Refusing(*[QueueFullError(0.01)] * 2)
    async with client_of(servicer) as client:
        assert (await client.classify("a" * size)).label == "yes"
    assert servicer.attempts == 3


async def test_without_retries_a_refusal_is_raised_at_once() -> None:
    servicer = Refusing(*[QueueFullError(0.01)] * 2)
    async with client_of(servicer, retries=False) as client:
        with pytest.raises(OverloadedError):
            await client.classify("fine")
    assert servicer.attempts == 1


async def test_a_server_that_closes_is_unavailable() -> None:
    async with client_of(Refusing(ClosingError()), retries=False) as client:
        with pytest.raises(UnavailableError):
            await client.classify("fine")


async def test_attempts_are_bounded_and_the_delay_is_told() -> None:
    servicer = Refusing(*[QueueFullError(0.01)] * 10)
    async with client_of(servicer) as client:
        with pytest.raises(OverloadedError) as raised:
            await client.classify("fine")
    assert raised.value.retry_after == pytest.approx(0.01)
    assert servicer.attempts == RETRIES["maxAttempts"]


async def test_the_client_waits_as_long_as_it_is_told() -> None:
    servicer = Refusing(QueueFullError(0.5))
    async with client_of(servicer) as client:
        begun = asyncio.get_running_loop().time()
        assert (await client.classify("fine")).label == "yes"
        waited = asyncio.get_running_loop().time() - begun
    assert waited >= 0.5  # its own backoff is a tenth of it
    assert servicer.attempts == 2


async def test_a_delay_beyond_the_timeout_is_told_at_once() -> None:
    servicer = Refusing(QueueFullError(3600.0))
    async with client_of(servicer) as client:
        with pytest.raises(OverloadedError) as raised:
            await client.classify("fine", timeout=PATIENCE)
    assert raised.value.retry_after == 3600.0
    assert servicer.attempts == 1


@pytest.mark.parametrize(
    "error", [DeadlineUnreachableError(2.0, 1.0), InvalidRequestError("text", "is empty")]
)
async def test_what_would_only_fail_again_is_not_retried(error: Exception) -> None:
    servicer = Refusing(error)
    async with client_of(servicer) as client:
        with pytest.raises(Exception, match=str(error)):
            await client.classify("fine")
    assert servicer.attempts == 1
