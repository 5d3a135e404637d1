"""What the server itself refuses, before a request reaches the scheduler."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a message that is not as it must be."""

    field: str
    description: str


class InvalidRequestError(Exception):
    """A message that asks for something impossible; says which field and what to do."""

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.violation = Violation(field, description)


class MessageError(Exception):
    """A message that could not be read at all, so that none of its inputs has a fate of its own."""


class MessageTooLargeError(MessageError):
    """More bytes than one message may have."""

    def __init__(self, size: int, most: int) -> None:
        super().__init__(
            f"the message has {size} bytes, at most {most} are read; send fewer or shorter texts"
            " in each"
        )


class TooManyFieldsError(MessageError):
    """More inputs than one message may have, empty ones included."""

    def __init__(self, most: int) -> None:
        super().__init__(f"the message has more than {most} inputs; send fewer in each")


class UndecodableError(MessageError):
    """Bytes that are not the message of this method, or text in them that is not UTF-8."""

    def __init__(self) -> None:
        super().__init__("the message cannot be decoded; texts must be valid UTF-8")


class UnauthenticatedError(Exception):
    """A call without one of the tokens that this server accepts."""

    def __init__(self) -> None:
        super().__init__("no valid token; send one as metadata `authorization: Bearer TOKEN`")


class ModelNotFoundError(Exception):
    """A model that is not served here."""

    def __init__(self, name: str, served: tuple[str, ...]) -> None:
        super().__init__(f"no model {name!r} is served here; there are {', '.join(served)}")
        self.name = name
