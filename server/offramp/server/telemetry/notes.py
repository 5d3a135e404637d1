"""What the server remembers of a request for those who observe it."""

from dataclasses import dataclass

from opentelemetry.trace import Span


@dataclass(frozen=True, slots=True)
class Notes:
    """A request's `context` in the scheduler, of a server that is told to observe.

    `span` is None where the request is not traced; one that is `owned` ends with the request, the
    other is its call's. `asked` is the threshold that the request named or was due by default,
    before a guard moved it. `text` is kept only if texts may be logged.
    """

    asked: float
    span: Span | None = None
    owned: bool = False
    text: str | None = None


def notes_of(context: object) -> Notes | None:
    """The notes of a request's context."""
    return context if isinstance(context, Notes) else None
