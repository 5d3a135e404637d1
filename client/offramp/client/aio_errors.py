"""What ends a call of the asyncio client, as our errors."""

import asyncio
from collections.abc import Iterable
from typing import cast

import grpc.aio

from offramp.client.errors import OfframpError, UnavailableError, error_from_call


def cancelled(error: asyncio.CancelledError) -> BaseException:
    """What to raise: the error of a task that was cancelled; else the client was closed."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        return error
    return UnavailableError("this client was closed during the call", grpc.StatusCode.CANCELLED)


def translated(error: grpc.aio.AioRpcError) -> OfframpError:
    """The error that a call's status tells."""
    metadata = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata())
    return error_from_call(error.code(), error.details(), metadata)
