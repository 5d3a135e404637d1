"""What ends a call of the asyncio client, as our errors."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import grpc.aio

from offramp.client.errors import OfframpError, UnavailableError, error_from_call, error_from_rpc

LOST = (grpc.StatusCode.INTERNAL, "Internal error from Core")
"""What gRPC says of a call that ended while it sent: https://github.com/grpc/grpc/issues/36066."""

PATIENCE = 1.0
"""Seconds for the status behind that, which is as good as there."""


def cancelled(error: asyncio.CancelledError) -> BaseException:
    """What to raise: the error of a task that was cancelled; else the client was closed."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        return error
    return UnavailableError("this client was closed during the call", grpc.StatusCode.CANCELLED)


class Ending:
    """How a stream ended: gRPC puts `LOST` before or over the status if it was sending then."""

    def __init__(self, call: "grpc.aio.Call") -> None:
        self._told = asyncio.Event()
        self._status: tuple[Any, ...] = LOST
        call.add_done_callback(self._ended)

    def _ended(self, call: "grpc.aio.Call") -> None:
        """Called for every status that a call is given."""
        status = tuple(_now(part()) for part in (call.code, call.details, call.trailing_metadata))
        if status[:2] != LOST:
            self._status = status
            self._told.set()

    async def error(self, error: grpc.aio.AioRpcError) -> OfframpError:
        """The error that the status tells which is behind this one."""
        if (error.code(), error.details()) == LOST:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), PATIENCE)
        if self._status[:2] == LOST or self._status[0] is grpc.StatusCode.OK:
            return error_from_rpc(error)
        return error_from_call(*self._status)


def _now(known: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401
    """What a coroutine returns that has nothing to wait for."""
    try:
        known.send(None)
    except StopIteration as done:
        return done.value
    known.close()
    return None
