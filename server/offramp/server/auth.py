"""Who may call: bearer tokens, if the server was given any."""

from collections.abc import Collection
from hmac import compare_digest

from google.protobuf.descriptor import MethodDescriptor

from offramp.server.errors import UnauthenticatedError
from offramp.server.handlers import Behavior, Context

SCHEME = b"bearer"
"""In whatever case it comes (RFC 9110, 11.1)."""


class TokenGate:
    """Refuses calls of our services that carry none of the tokens.

    Health and reflection stay open: probes carry no token, and the contract is no secret.
    """

    def __init__(self, tokens: Collection[str]) -> None:
        self._accepted = [token.encode() for token in tokens]

    def __call__(self, method: MethodDescriptor, behavior: Behavior) -> Behavior:
        """Let those through to the method that carry a token."""
        del method

        async def run(request: object, context: Context) -> object:
            if not self._accepts(context):
                raise UnauthenticatedError
            return await behavior(request, context)

        return run

    def _accepts(self, context: Context) -> bool:
        """Compare with every token in a time that tells nothing of them."""
        values = [
            value.encode() if isinstance(value, str) else value
            for key, value in context.invocation_metadata() or ()
            if key == "authorization"
        ]
        parts = [value.partition(b" ") for value in values]
        given = [token for scheme, _, token in parts if scheme.lower() == SCHEME]
        matches = [compare_digest(one, token) for one in given for token in self._accepted]
        return any(matches)
