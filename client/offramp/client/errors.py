"""Why a call failed: one tree, made from what the server says; the inverse of its error table."""

from collections.abc import Iterable
from typing import cast

import grpc
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

DOMAIN = "offramp"

ADVICE = {
    "WRONG_VERSION_NUMBER": "the server does not speak TLS: connect without credentials",
    "unable to get local issuer": "its certificate is of no authority that is trusted here: give"
    " that authority's, --ca FILE",
    "self signed certificate": "its certificate, or that of its authority, is trusted by nobody"
    " here: give it, --ca FILE",
    "Hostname Verification Check failed": "its certificate is for other names: connect by one that"
    " is in it",
    "Connection refused": "nobody listens there",
    ": Socket closed": "does the server speak TLS? connect with credentials, --tls or --ca FILE",
}
"""What to do about a connection that fails, by a sign in what gRPC says; the first is told."""

SIZES = {
    "larger than max": "cut the text, or raise the limit of the server or of a proxy between",
    "metadata size exceeds": "send a shorter token, or less baggage with the trace",
}
"""What to do about what gRPC itself finds too large, by a sign in what it says.

Its status is that of a full queue, but what is too large once is too large again.
"""


class OfframpError(Exception):
    """Anything that a call to an offramp server can fail with.

    `code` is the gRPC status code, `retry_after` the seconds after which the server suggests to
    try again, or None, and `index` the place of the input in an iterable, or None.
    """

    def __init__(
        self,
        message: str,
        code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        self.index: int | None = None


class InvalidRequestError(OfframpError):
    """The input or an option is not possible; the message says which and what to do."""


class ModelNotFoundError(OfframpError):
    """The server does not serve this model."""


class OverloadedError(OfframpError):
    """The server can't take or finish this in time; `retry_after` says when it may."""


class DeadlineExceededError(OfframpError):
    """The timeout passed before an answer that the request would accept."""


class UnavailableError(OfframpError):
    """No server is reachable, or this one is draining or went away."""


class ServerFailedError(OfframpError):
    """The server failed on this input; its log says why."""


class UnauthenticatedError(OfframpError):
    """The credential is missing or wrong."""


class CallFailedError(OfframpError):
    """Any other status, such as those of a proxy between."""


REASONS: dict[str, type[OfframpError]] = {
    "INVALID_REQUEST": InvalidRequestError,
    "UNDECODABLE": InvalidRequestError,
    "MESSAGE_TOO_LARGE": InvalidRequestError,
    "UNAUTHENTICATED": UnauthenticatedError,
    "MODEL_NOT_FOUND": ModelNotFoundError,
    "QUEUE_FULL": OverloadedError,
    "DEADLINE_UNREACHABLE": OverloadedError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "DRAINING": UnavailableError,
    "STEP_FAILED": ServerFailedError,
    "UNEXPECTED": ServerFailedError,
}
"""Error classes by the reason in the server's ErrorInfo."""

CODES: dict[grpc.StatusCode, type[OfframpError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: ModelNotFoundError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    # Who cancels a call hears of it by other ways: here the server ended, or the client was closed.
    grpc.StatusCode.CANCELLED: UnavailableError,
    grpc.StatusCode.INTERNAL: ServerFailedError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
}
"""Error classes of statuses without a reason: made by gRPC itself, or on the way."""

STATUS_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def error_from_status(status: Status) -> OfframpError:
    """The error that a status of the server's tells of."""
    code = STATUS_CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    kind = CODES.get(code, CallFailedError)
    retry_after = None
    info, retry = ErrorInfo(), RetryInfo()
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            kind = REASONS.get(info.reason, kind)
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    return kind(status.message, code, retry_after)


def error_from_call(
    code: grpc.StatusCode | None,
    message: str | None,
    metadata: Iterable[tuple[str, str | bytes]] | None,
) -> OfframpError:
    """The error that a failed call tells of, by its details if it has any."""
    for key, value in metadata or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            return error_from_status(Status.FromString(value))
    code = code or grpc.StatusCode.UNKNOWN
    kind, told = CODES.get(code, CallFailedError), message or code.name.lower()
    if code is grpc.StatusCode.UNAVAILABLE:
        told += _advice(told, ADVICE)
    elif code is grpc.StatusCode.RESOURCE_EXHAUSTED and (advice := _advice(told, SIZES)):
        kind, told = InvalidRequestError, told + advice
    return kind(told, code)


def error_from_rpc(error: grpc.RpcError) -> OfframpError:
    """The error that what a stub raises tells of, of asyncio's or the other."""
    call = cast("grpc.Call", error)  # what a stub raises is both
    return error_from_call(call.code(), call.details(), call.trailing_metadata())


def _advice(told: str, table: dict[str, str]) -> str:
    return next((f" ({advice})" for sign, advice in table.items() if sign in told), "")
