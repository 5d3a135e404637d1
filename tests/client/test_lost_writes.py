"""A text that can't be sent any more takes no answer with it that is on its way."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from service import PATIENCE
from streaming import StreamsAlone

from offramp.client import AsyncClient, UnavailableError
from offramp.v1 import classification_pb2 as pb
from offramp.v1 import classifier_service_pb2 as service_pb
from offramp.v1.classifier_service_pb2_grpc import add_ClassifierServiceServicer_to_server

ANSWERS = 100


class Leaving(StreamsAlone):
    """Answers one text, waits to be told, answers the others and leaves."""

    def __init__(self) -> None:
        self.told, self.left = threading.Event(), threading.Event()

    def StreamClassifyText(  # noqa: N802
        self,
        request_iterator: Iterator[service_pb.StreamClassifyTextRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[service_pb.StreamClassifyTextResponse]:
        context.add_callback(self.left.set)
        outcome = pb.ClassifyResult(classification=pb.Classification(label="yes"))
        for at in range(ANSWERS):
            found = service_pb.CorrelatedResult(correlation_id=str(at), result=outcome)
            yield service_pb.StreamClassifyTextResponse(results=[found])
            assert self.told.wait(PATIENCE)
        context.abort(grpc.StatusCode.UNAVAILABLE, "leaves")


async def test_a_text_that_is_sent_too_late_costs_no_answer() -> None:
    """The client's loop stands still meanwhile, so it sends before it has read anything of them."""
    servicer, first = Leaving(), asyncio.Event()

    async def texts() -> AsyncIterator[str]:
        for _ in range(ANSWERS):
            yield "fine"
        await first.wait()
        servicer.told.set()
        assert servicer.left.wait(PATIENCE)
        while True:
            yield "fine"
            await asyncio.sleep(0)

    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        add_ClassifierServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        async with AsyncClient(f"127.0.0.1:{port}") as client:
            answers = client.classify_many(texts())
            assert (await anext(answers)).index == 0
            first.set()
            assert [(await anext(answers)).index for _ in range(1, ANSWERS)] == [*range(1, ANSWERS)]
            with pytest.raises(UnavailableError, match="leaves"):
                await anext(answers)
        server.stop(None).wait()
