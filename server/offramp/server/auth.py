"""Who may call: bearer tokens, if the server was given any."""

from collections.abc import Awaitable, Callable, Collection
from hmac import compare_digest
from typing import Any, NoReturn, TypeAlias, cast

import grpc
import grpc.aio

from offramp.server.errors import UnauthenticatedError

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

PREFIX = "/offramp.v1."


class TokenInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Refuses calls of our services that carry none of the tokens.

    Health and reflection stay open: probes carry no token, and the contract is no secret.
    """

    def __init__(self, tokens: Collection[str]) -> None:
        self._accepted = [f"Bearer {token}".encode() for token in tokens]

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Awaitable[Handler | None]"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Put a refusal in the place of a handler that this caller may not reach."""
        handler = await continuation(handler_call_details)
        if (
            handler is None
            or not handler_call_details.method.startswith(PREFIX)
            or self._accepts(handler_call_details)
        ):
            return cast("Handler", handler)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                cast("Any", _refuse), handler.request_deserializer, handler.response_serializer
            )
        return grpc.stream_stream_rpc_method_handler(
            cast("Any", _refuse), handler.request_deserializer, handler.response_serializer
        )

    def _accepts(self, details: grpc.HandlerCallDetails) -> bool:
        """Compare with every token in a time that tells nothing of them."""
        given = [
            value.encode() if isinstance(value, str) else value
            for key, value in details.invocation_metadata
            if key == "authorization"
        ]
        matches = [compare_digest(one, token) for one in given for token in self._accepted]
        return any(matches)


async def _refuse(request: object, context: object) -> NoReturn:
    del request, context
    raise UnauthenticatedError
