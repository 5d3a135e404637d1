"""The service as a client in another language sees it: messages, statuses, details."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from offramp.v1 import classification_pb2 as pb
from offramp.v1 import classifier_service_pb2 as service_pb
from offramp.v1.classifier_service_pb2_grpc import ClassifierServiceStub
from offramp.v1.model_service_pb2_grpc import ModelServiceStub

if TYPE_CHECKING:
    from offramp.v1.classifier_service_pb2_grpc import ClassifierServiceAsyncStub
    from offramp.v1.model_service_pb2_grpc import ModelServiceAsyncStub

Detail = TypeVar("Detail", bound=Message)


@dataclass(frozen=True, slots=True)
class Wire:
    """A channel that never retries, and the stubs on it."""

    channel: grpc.aio.Channel
    classifier: "ClassifierServiceAsyncStub"
    models: "ModelServiceAsyncStub"


@asynccontextmanager
async def wire(address: str) -> AsyncGenerator[Wire]:
    async with grpc.aio.insecure_channel(address, (("grpc.enable_retries", 0),)) as channel:
        yield Wire(
            channel,
            cast("ClassifierServiceAsyncStub", ClassifierServiceStub(channel)),
            cast("ModelServiceAsyncStub", ModelServiceStub(channel)),
        )


def unary(*texts: str, options: pb.ClassifyOptions | None = None) -> service_pb.ClassifyTextRequest:
    inputs = [pb.TextInput(text=text) for text in texts]
    return service_pb.ClassifyTextRequest(inputs=inputs, options=options)


def streamed(
    items: Iterable[tuple[str, str]], options: pb.ClassifyOptions | None = None
) -> service_pb.StreamClassifyTextRequest:
    """A message of pairs of correlation id and text."""
    inputs = [
        service_pb.CorrelatedInput(correlation_id=name, input=pb.TextInput(text=text))
        for name, text in items
    ]
    return service_pb.StreamClassifyTextRequest(inputs=inputs, options=options)


def metadata_of(error: grpc.aio.AioRpcError) -> dict[str, str | bytes]:
    """Trailing metadata of a call that failed."""
    return dict(cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata()))


def status_of(error: grpc.aio.AioRpcError) -> Status:
    """The rich status that came with a call that failed."""
    return Status.FromString(cast("bytes", metadata_of(error)["grpc-status-details-bin"]))


def detail(status: Status, kind: type[Detail]) -> Detail:
    """The one detail of this kind."""
    found = kind()
    assert sum(packed.Unpack(found) for packed in status.details) == 1, status
    return found


def reason(status: Status) -> str:
    """The reason in its ErrorInfo, of our domain."""
    info = detail(status, ErrorInfo)
    assert info.domain == "offramp"
    return info.reason
