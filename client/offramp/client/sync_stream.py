"""The stream of the synchronous client: a feed sends texts beside the answers."""

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import grpc

from offramp.client.errors import OfframpError, error_from_rpc
from offramp.client.exchange import Exchange
from offramp.client.feed import Feed
from offramp.v1 import classifier_service_pb2 as service_pb

if TYPE_CHECKING:
    StreamCall = grpc.CallIterator[service_pb.StreamClassifyTextResponse]


def outcomes(
    call: "StreamCall", feed: Feed, exchange: Exchange, *, return_errors: bool
) -> Generator[Any]:
    """What becomes of the feed's texts: answers, and errors if they are wanted, else the first.

    The call is over and the feed closed when this ends, in whatever way.
    """
    try:
        feed.start()
        for response in _responses(call):
            for outcome in exchange.incoming(response):
                feed.answered()
                if isinstance(outcome, OfframpError) and not return_errors:
                    raise outcome
                yield outcome
        if feed.error is not None:
            raise feed.error
    finally:
        feed.close()
        call.cancel()  # type: ignore[no-untyped-call]


def _responses(call: "StreamCall") -> Iterator[service_pb.StreamClassifyTextResponse]:
    """The call's messages; here alone is an RpcError the call's, and none of the caller's own."""
    try:
        yield from call
    except grpc.RpcError as error:
        raise error_from_rpc(error) from error
