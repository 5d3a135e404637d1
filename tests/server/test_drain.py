"""A server that ends waits for what its handlers have, and for nothing else."""

import asyncio
from typing import Any, cast

import grpc.aio
import pytest

from offramp.server import drain
from offramp.server.drain import OpenCalls, ending, stop_server

LONG = 60.0


class Server:
    """Stops when nobody has a call, as gRPC's does; one call it has given to no handler."""

    def __init__(self) -> None:
        self.stops: list[float] = []
        self.closed = asyncio.Event()

    async def stop(self, grace: float) -> None:
        self.stops.append(grace)
        if not grace:
            self.closed.set()
        await self.closed.wait()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "SENDING", 0.02)


def stopping(server: Server, calls: OpenCalls) -> "asyncio.Future[None]":
    return asyncio.ensure_future(stop_server(cast("grpc.aio.Server", server), calls, LONG))


async def test_a_call_that_no_handler_has_is_not_waited_for() -> None:
    server = Server()
    await asyncio.wait_for(stopping(server, OpenCalls()), LONG / 2)
    assert server.stops == [LONG, 0]


async def test_calls_that_handlers_have_are_waited_for_and_none_is_cut_short() -> None:
    server, calls = Server(), OpenCalls()
    ends = [asyncio.Event(), asyncio.Event()]

    async def behavior(request: int, _: object) -> int:
        await ends[request].wait()
        return request

    handle: Any = calls(cast("Any", None), behavior)
    tasks = [asyncio.ensure_future(handle(at, None)) for at in range(2)]
    await asyncio.sleep(0)
    stop = stopping(server, calls)
    for task, end in zip(tasks, ends, strict=True):
        await asyncio.sleep(2 * drain.SENDING)
        assert server.stops == [LONG]
        end.set()
        await task
    await asyncio.wait_for(stop, LONG / 2)
    assert server.stops == [LONG, 0]


async def test_a_stream_that_ends_leaves_nobody_to_wait_for_the_drain() -> None:
    async def behavior(request: object, context: object) -> None:
        del request, context

    before = asyncio.all_tasks()
    await ending(behavior, asyncio.Event())(None, None)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_a_server_that_stops_at_once_is_told_once() -> None:
    server = Server()
    server.closed.set()
    await stopping(server, OpenCalls())
    assert server.stops == [LONG]


async def test_what_stopping_raises_is_raised() -> None:
    class Broken(Server):
        async def stop(self, grace: float) -> None:
            raise RuntimeError("no lock")

    with pytest.raises(RuntimeError, match="no lock"):
        await stopping(Broken(), OpenCalls())
