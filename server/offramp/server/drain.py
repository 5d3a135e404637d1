"""Around streams that are not ours, of health and reflection: they end once the server drains.

They last as long as their clients like, and a server that stops waits for all that are open.
"""

import asyncio
import inspect
from typing import Any

import grpc

from offramp.scheduler.errors import DrainingError
from offramp.server.handlers import Context

LAST_WORDS = 0.5
"""Seconds that such a stream has left to tell what it knows, as that nothing is served any more."""


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
