"""The state of one stream, whoever does the talking: what goes out, and what comes back for it.

Correlation ids are the places of the inputs in what the caller gave. Outcomes are given on in
this order, or as they come; those held back are never more than the window of the stream.
"""

from collections.abc import Callable, Iterator

from offramp.client.answer import Answer
from offramp.client.core import Text, outcome_of, text_input
from offramp.client.errors import InvalidRequestError, OfframpError
from offramp.v1 import classification_pb2 as pb
from offramp.v1 import classifier_service_pb2 as service_pb

WINDOW = 256
"""Inputs of a stream on their way at most."""

INPUTS_PER_MESSAGE = 32
BYTES_PER_MESSAGE = 2**16
"""A message is full at the first of these; few texts are so long that it is at the second.

A server takes messages up to a limit of its own, which may be small: many long texts in one would
be refused where each alone is not.
"""

Outcome = Answer | OfframpError


def refuse_one(texts: object) -> None:
    """Raise TypeError of one text where several are wanted: its letters would be taken for them."""
    if isinstance(texts, str | bytes):
        raise TypeError("give several texts, such as a list, not one; `classify` takes one")


class Exchange:
    """Numbers inputs on their way out and sorts outcomes on their way back."""

    def __init__(self, options: pb.ClassifyOptions, *, ordered: bool) -> None:
        self._options = options
        self._ordered = ordered
        self._sent = 0
        self._next = 0
        self._held: dict[int, Outcome] = {}
        self._unsendable: dict[int, InvalidRequestError] = {}

    def outgoing(self, text: Text) -> service_pb.CorrelatedInput:
        """The next input. One that can't be sent goes empty, to be answered in its turn."""
        index = self._sent
        self._sent += 1
        correlated = service_pb.CorrelatedInput(correlation_id=str(index))
        try:
            correlated.input.CopyFrom(text_input(text))
        except InvalidRequestError as error:
            error.index = index
            self._unsendable[index] = error
        return correlated

    def message(
        self,
        first: service_pb.CorrelatedInput,
        more: Callable[[], service_pb.CorrelatedInput | None],
    ) -> service_pb.StreamClassifyTextRequest:
        """A message of the first input and of those that `more` has at once, until it is full."""
        inputs, size = [first], first.ByteSize()
        while len(inputs) < INPUTS_PER_MESSAGE and size < BYTES_PER_MESSAGE:
            following = more()
            if following is None:
                break
            inputs.append(following)
            size += following.ByteSize()
        return service_pb.StreamClassifyTextRequest(inputs=inputs, options=self._options)

    def incoming(self, response: service_pb.StreamClassifyTextResponse) -> Iterator[Outcome]:
        """Outcomes that may go on now that this message has come."""
        for found in response.results:
            index = int(found.correlation_id)
            outcome = self._unsendable.pop(index, None) or outcome_of(found.result, index)
            if self._ordered:
                self._held[index] = outcome
                yield from self._in_turn()
            else:
                yield outcome

    def _in_turn(self) -> Iterator[Outcome]:
        while (outcome := self._held.pop(self._next, None)) is not None:
            self._next += 1
            yield outcome
