"""The client of an offramp server: grpcio and protobuf, nothing that computes."""

from offramp.client.aio import AsyncClient
from offramp.client.answer import Answer, ExitReason, ModelInfo, Timing, TradeOff
from offramp.client.client import Client
from offramp.client.core import Text
from offramp.client.errors import (
    CallFailedError,
    DeadlineExceededError,
    InvalidRequestError,
    ModelNotFoundError,
    OfframpError,
    OverloadedError,
    ServerFailedError,
    UnauthenticatedError,
    UnavailableError,
)
from offramp.client.options import DeadlineAction, Options, Priority

__all__ = [
    "Answer",
    "AsyncClient",
    "CallFailedError",
    "Client",
    "DeadlineAction",
    "DeadlineExceededError",
    "ExitReason",
    "InvalidRequestError",
    "ModelInfo",
    "ModelNotFoundError",
    "OfframpError",
    "Options",
    "OverloadedError",
    "Priority",
    "ServerFailedError",
    "Text",
    "Timing",
    "TradeOff",
    "UnauthenticatedError",
    "UnavailableError",
]
