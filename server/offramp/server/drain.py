"""How a server ends: what is open is finished, and nothing else is waited for.

Streams of health and reflection last as long as their clients like, and a server that stops waits
for all that are open. It also waits for calls that gRPC took in the moment in which it closed its
port and gave to no handler; of those our own count knows nothing.
"""

import asyncio
import inspect
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor

from offramp.scheduler.errors import DrainingError
from offramp.server.handlers import Behavior, Context

LAST_WORDS = 0.5
"""Seconds that such a stream has left to tell what it knows, as that nothing is served any more."""

SENDING = 5.0
"""Seconds after the last handler is through in which gRPC may still be sending what it said."""


class OpenCalls:
    """A gate that counts the calls that handlers have."""

    def __init__(self) -> None:
        self._open = 0
        self._none = asyncio.Event()
        self._none.set()

    def __call__(self, method: MethodDescriptor, behavior: Behavior) -> Behavior:
        """Count a method's calls."""
        del method

        async def run(request: object, context: Context) -> object:
            self._open += 1
            self._none.clear()
            try:
                return await behavior(request, context)
            finally:
                self._open -= 1
                if not self._open:
                    self._none.set()

        return run

    @property
    def none(self) -> bool:
        """Whether no handler has a call."""
        return self._none.is_set()

    async def over(self) -> None:
        """Return when no handler has a call."""
        await self._none.wait()


async def stop_server(server: grpc.aio.Server, calls: OpenCalls, grace: float) -> None:
    """Close the port, and cancel what is open after `grace` seconds, or what no handler has."""
    stopping = asyncio.ensure_future(server.stop(grace))
    while not stopping.done():
        over = asyncio.ensure_future(calls.over())
        await asyncio.wait((stopping, over), return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        await asyncio.wait((stopping,), timeout=SENDING)
        if calls.none and not stopping.done():
            await server.stop(0)
    stopping.result()


def ending(behavior: Any, draining: asyncio.Event) -> Any:  # noqa: ANN401 - typed for threads
    """A stream's handler that ends with UNAVAILABLE soon after `draining` is set."""

    async def handle(request: object, context: Context) -> None:
        stream = asyncio.ensure_future(_run(behavior, request, context))
        drain = asyncio.ensure_future(draining.wait())
        try:
            await asyncio.wait((stream, drain), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((stream,), timeout=LAST_WORDS)
            if stream.done():
                stream.result()
                return
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(DrainingError()))
        finally:
            stream.cancel()
            drain.cancel()

    return handle


async def _run(behavior: Any, request: object, context: Context) -> None:  # noqa: ANN401
    """Run a handler that either writes to its context or yields what is to be written."""
    if not inspect.isasyncgenfunction(behavior):
        await behavior(request, context)
        return
    async for response in behavior(request, context):
        await context.write(response)
