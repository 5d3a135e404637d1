"""The error table: what each error is on the wire. The client's table is its inverse.

An error becomes a `google.rpc.Status` with an ErrorInfo whose reason names it (AIP-193), and
whatever helps to recover from it. It travels as the status of one input, or of a whole call.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, ResourceInfo, RetryInfo
from google.rpc.status_pb2 import Status

from offramp.scheduler.errors import (
    DeadlineExceededError,
    DeadlineUnreachableError,
    DrainingError,
    QueueFullError,
    StepFailedError,
)
from offramp.server.errors import (
    InvalidRequestError,
    MessageTooLargeError,
    ModelNotFoundError,
    TooManyFieldsError,
    UnauthenticatedError,
    UndecodableError,
)

DOMAIN = "offramp"
DRAINING_RETRY = 1.0
"""Seconds after which a client may look for another server."""
LONGEST_MESSAGE = 300
LONGEST_NAME = 100
"""Characters told of what a client sent or a server serves: a status whose metadata are beyond
8 KiB never arrives as itself."""

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the error table."""

    code: grpc.StatusCode
    reason: str
    details: Callable[[Any], list[Message]]


def short(text: str, most: int) -> str:
    """The text, or its two ends if it has more than `most` characters."""
    end = most // 2 - 2
    return text if len(text) <= most else f"{text[:end]} … {text[-end:]}"


def _retry(seconds: float) -> RetryInfo:
    delay = Duration()
    delay.FromNanoseconds(int(seconds * 1e9))
    return RetryInfo(retry_delay=delay)


def _violations(error: InvalidRequestError) -> list[Message]:
    violation = error.violation
    field = BadRequest.FieldViolation(field=violation.field, description=violation.description)
    return [BadRequest(field_violations=[field])]


def _predicted(error: DeadlineUnreachableError) -> dict[str, str]:
    return {
        "predicted_seconds": f"{error.predicted:.6f}",
        "remaining_seconds": f"{error.remaining:.6f}",
    }


def _nothing(_error: Exception) -> list[Message]:
    return []


TABLE: dict[type[Exception], Row] = {
    InvalidRequestError: Row(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", _violations),
    UndecodableError: Row(grpc.StatusCode.INVALID_ARGUMENT, "UNDECODABLE", _nothing),
    MessageTooLargeError: Row(grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_TOO_LARGE", _nothing),
    TooManyFieldsError: Row(grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_TOO_LARGE", _nothing),
    UnauthenticatedError: Row(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", _nothing),
    ModelNotFoundError: Row(
        grpc.StatusCode.NOT_FOUND,
        "MODEL_NOT_FOUND",
        lambda error: [
            ResourceInfo(resource_type="model", resource_name=short(error.name, LONGEST_NAME))
        ],
    ),
    QueueFullError: Row(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "QUEUE_FULL",
        lambda error: [_retry(error.retry_after)],
    ),
    DeadlineUnreachableError: Row(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "DEADLINE_UNREACHABLE", _nothing
    ),
    DeadlineExceededError: Row(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", _nothing),
    DrainingError: Row(
        grpc.StatusCode.UNAVAILABLE, "DRAINING", lambda _error: [_retry(DRAINING_RETRY)]
    ),
    StepFailedError: Row(grpc.StatusCode.INTERNAL, "STEP_FAILED", _nothing),
}

UNEXPECTED = Row(grpc.StatusCode.INTERNAL, "UNEXPECTED", _nothing)


def reason_of(error: BaseException) -> str:
    """The stable name of an error, as its ErrorInfo and the metrics give it."""
    return _row(error).reason


def status_of(error: BaseException) -> Status:
    """The wire form of an error; one that is not in the table tells nothing of itself."""
    row = _row(error)
    told = str(error) if row is not UNEXPECTED else "the server failed; see its log"
    metadata = _predicted(error) if isinstance(error, DeadlineUnreachableError) else {}
    info = ErrorInfo(reason=row.reason, domain=DOMAIN, metadata=metadata)
    code: int = row.code.value[0]
    status = Status(code=code, message=short(told, LONGEST_MESSAGE))
    for detail in (info, *row.details(error)):
        status.details.add().Pack(detail)
    return status


def trailing_metadata(error: BaseException, status: Status, remaining: float | None) -> Metadata:
    """What goes with the status of a whole call: its details and when to retry.

    gRPC's own retries honour `grpc-retry-pushback-ms`; a negative one forbids the retry, as is
    right where the deadline, in `remaining` seconds if there is one, would only be missed again:
    a caller who waits for it never learns why.
    """
    metadata: Metadata = (("grpc-status-details-bin", status.SerializeToString()),)
    if isinstance(error, QueueFullError):
        in_time = remaining is None or error.retry_after < remaining
        pushback = max(1, int(error.retry_after * 1e3)) if in_time else -1
        return (*metadata, ("grpc-retry-pushback-ms", str(pushback)))
    if isinstance(error, DeadlineUnreachableError):
        return (*metadata, ("grpc-retry-pushback-ms", "-1"))
    return metadata


def _row(error: BaseException) -> Row:
    return TABLE.get(type(error), UNEXPECTED) if isinstance(error, Exception) else UNEXPECTED
