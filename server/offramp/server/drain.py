"""Around streams that are not ours, of health and reflection: they end once the server drains.

They last as long as their clients like, and a server that stops waits for all that are open.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, cast

import grpc
import grpc.aio

from offramp.scheduler.errors import DrainingError
from offramp.server.interceptors import PREFIX, Context, Handler

LAST_WORDS = 0.5
"""Seconds that such a stream has left to tell what it knows, as that nothing is served any more."""


class DrainInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Ends the streams of others with UNAVAILABLE once `draining` is set; ours end themselves."""

    def __init__(self, draining: asyncio.Event) -> None:
        self._draining = draining

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Awaitable[Handler | None]"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler of a method that streams its responses, unless it is ours."""
        handler = await continuation(handler_call_details)
        ours = handler_call_details.method.startswith(PREFIX)
        if handler is None or ours or not handler.response_streaming:
            return cast("Handler", handler)  # None is a method that nobody implements
        make, behavior = (
            (grpc.stream_stream_rpc_method_handler, handler.stream_stream)
            if handler.request_streaming
            else (grpc.unary_stream_rpc_method_handler, handler.unary_stream)
        )
        return make(
            _ending(behavior, self._draining),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _ending(behavior: Any, draining: asyncio.Event) -> Any:  # noqa: ANN401 - typed for threads
    async def ending(request: object, context: Context) -> None:
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

    return ending


async def _run(behavior: Any, request: object, context: Context) -> None:  # noqa: ANN401
    """Run a handler that either writes to its context or yields what is to be written."""
    if not inspect.isasyncgenfunction(behavior):
        await behavior(request, context)
        return
    async for response in behavior(request, context):
        await context.write(response)
