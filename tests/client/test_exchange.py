"""The state of a stream, for any order in which a server may answer."""

from collections.abc import Iterator, Sequence

import pytest
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from offramp.client import Answer, InvalidRequestError, OfframpError, Text
from offramp.client.exchange import BYTES_PER_MESSAGE, INPUTS_PER_MESSAGE, Exchange
from offramp.v1 import classification_pb2 as pb
from offramp.v1 import classifier_service_pb2 as service_pb

UNSENDABLE = "lone \udc80"
EMPTY = Status(code=3, message="text: is empty")
TEXTS = st.lists(
    st.sampled_from(["fine", "", UNSENDABLE, ("a", "b"), ("a", UNSENDABLE)]), max_size=40
)


def exchange(*, ordered: bool) -> Exchange:
    return Exchange(pb.ClassifyOptions(), ordered=ordered)


def replies(
    inputs: Sequence[service_pb.CorrelatedInput], sizes: Iterator[int]
) -> Iterator[service_pb.StreamClassifyTextResponse]:
    """Messages of a server that answers these inputs in this order and refuses empty ones."""
    rest = list(inputs)
    while rest:
        size = next(sizes)
        part, rest = rest[:size], rest[size:]
        yield service_pb.StreamClassifyTextResponse(
            results=[
                service_pb.CorrelatedResult(
                    correlation_id=one.correlation_id,
                    result=pb.ClassifyResult(classification=pb.Classification(label="yes"))
                    if one.input.text
                    else pb.ClassifyResult(error=EMPTY),
                )
                for one in part
            ]
        )


@given(texts=TEXTS, ordered=st.booleans(), data=st.data())
def test_each_text_has_its_outcome_once_and_in_its_place(
    texts: list[Text], *, ordered: bool, data: st.DataObject
) -> None:
    state = exchange(ordered=ordered)
    sent = [state.outgoing(text) for text in texts]
    shuffled = data.draw(st.permutations(sent))
    sizes = iter(lambda: data.draw(st.integers(1, 7)), None)
    given_on = [o for reply in replies(shuffled, sizes) for o in state.incoming(reply)]
    places = [outcome.index for outcome in given_on]
    arrivals = [int(one.correlation_id) for one in shuffled]
    assert places == (sorted(arrivals) if ordered else arrivals)
    for outcome in given_on:
        assert outcome.index is not None
        text = texts[outcome.index]
        if UNSENDABLE in text:
            assert isinstance(outcome, InvalidRequestError)
            assert "that is not UTF-8" in str(outcome)
        elif text == "":
            assert isinstance(outcome, OfframpError)
            assert "empty" in str(outcome)
        else:
            assert isinstance(outcome, Answer)


@pytest.mark.parametrize(
    ("text", "inputs"), [("fine", INPUTS_PER_MESSAGE), ("x" * (BYTES_PER_MESSAGE // 4), 4)]
)
def test_a_message_is_full_by_inputs_or_by_bytes(text: str, inputs: int) -> None:
    state = exchange(ordered=True)
    waiting = [state.outgoing(text) for _ in range(100)]
    message = state.message(waiting.pop(0), lambda: waiting.pop(0) if waiting else None)
    assert len(message.inputs) == inputs
    few = state.message(waiting.pop(0), lambda: None)
    assert len(few.inputs) == 1
