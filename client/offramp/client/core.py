"""What the sync and the async client share: messages built, messages read."""

import grpc

from offramp.client.answer import Answer, ExitReason, ModelInfo, Timing, TradeOff
from offramp.client.errors import (
    CallFailedError,
    InvalidRequestError,
    OfframpError,
    error_from_status,
)
from offramp.client.options import Options, options_message
from offramp.v1 import classification_pb2 as pb
from offramp.v1 import classifier_service_pb2 as service_pb
from offramp.v1 import model_service_pb2 as models_pb

Text = str | tuple[str, str]
"""An input: one text, or a text and its pair."""

LONGEST_TEXT = 4 * 2**20
"""Bytes of UTF-8. Servers read messages up to a limit, and models far less."""

REASONS = {pb.ExitReason.Value(f"EXIT_REASON_{reason.name}"): reason for reason in ExitReason}


def text_input(text: Text) -> pb.TextInput:
    """The wire form of one input; raises InvalidRequestError if it can't be sent."""
    match text:
        case str():
            first, second = text, None
        case (str(first), str(second)):
            pass
        case _:
            raise TypeError(f"an input is a text or a pair of texts, not {type(text).__name__}")
    try:
        message = pb.TextInput(text=first, text_pair=second)
    except UnicodeEncodeError as error:
        field = "text" if error.object == first else "text_pair"
        raise InvalidRequestError(
            f"{field}: character {error.start + 1} is half of one, or a byte that is not UTF-8"
        ) from error
    if (size := message.ByteSize()) > LONGEST_TEXT:
        raise InvalidRequestError(
            f"text: has {size} bytes, more than {LONGEST_TEXT}; cut it, a model reads far less"
        )
    return message


def unary_request(text: Text, options: Options) -> service_pb.ClassifyTextRequest:
    """A call for one input."""
    return service_pb.ClassifyTextRequest(
        inputs=[text_input(text)], options=options_message(options)
    )


def outcome_of(result: pb.ClassifyResult, index: int = 0) -> Answer | OfframpError:
    """What became of one input."""
    kind = result.WhichOneof("outcome")
    if kind != "classification":
        error = error_from_status(result.error) if kind else _broken("a result without an outcome")
        error.index = index
        return error
    found = result.classification
    return Answer(
        label=found.label,
        label_index=found.label_index,
        confidence=found.confidence,
        exit=found.exit.index,
        exits=found.exit.exits,
        layer=found.exit.layer,
        layers=found.exit.layers,
        reason=REASONS.get(found.exit.reason, ExitReason.UNSPECIFIED),
        tokens=found.tokens,
        truncated=found.truncated,
        threshold=found.threshold,
        model=found.model,
        timing=Timing(
            queue=found.timing.queue.ToNanoseconds() / 1e9,
            compute=found.timing.compute.ToNanoseconds() / 1e9,
            total=found.timing.total.ToNanoseconds() / 1e9,
        ),
        probabilities=tuple(found.probabilities),
        index=index,
    )


def answer_of(response: service_pb.ClassifyTextResponse) -> Answer:
    """The answer of a call for one input; raises its OfframpError."""
    if len(response.results) != 1:
        raise _broken(f"{len(response.results)} results for one input")
    outcome = outcome_of(response.results[0])
    if isinstance(outcome, OfframpError):
        raise outcome
    return outcome


def _broken(given: str) -> OfframpError:
    """Of a server that does not keep to the contract."""
    return CallFailedError(f"the server gave {given}", grpc.StatusCode.INTERNAL)


def model_info(model: models_pb.Model) -> ModelInfo:
    """The frozen form of a model message."""
    return ModelInfo(
        name=model.name,
        labels=tuple(model.labels),
        exit_layers=tuple(exit_.layer for exit_ in model.exits),
        temperatures=tuple(exit_.temperature for exit_ in model.exits),
        layers=model.layers,
        token_limit=model.token_limit,
        default_threshold=model.default_threshold,
        trade_offs=tuple(
            TradeOff(
                threshold=point.threshold,
                accuracy=point.accuracy,
                accuracy_drop=point.accuracy_drop,
                agreement=point.agreement,
                mean_layers=point.mean_layers,
                layer_speedup=point.layer_speedup,
                accuracy_drop_bound=point.accuracy_drop_bound,
                disagreement_bound=point.disagreement_bound,
            )
            for point in model.trade_offs
        ),
        digest=model.digest,
    )
