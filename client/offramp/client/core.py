"""What the sync and the async client share: channel settings, messages built, messages read."""

import json
from collections.abc import Iterator
from enum import StrEnum
from typing import TypedDict

import grpc

from offramp.client.answer import Answer, ExitReason, ModelInfo, Timing, TradeOff
from offramp.client.errors import InvalidRequestError, OfframpError, error_from_status
from offramp.v1 import classification_pb2 as pb
from offramp.v1 import classifier_service_pb2 as service_pb
from offramp.v1 import model_service_pb2 as models_pb

INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT

DEFAULT_TIMEOUT = 30.0
"""Seconds a call of `classify` may take when it is not told otherwise."""

WINDOW = 256
"""Inputs of `classify_many` on their way at most."""

INPUTS_PER_MESSAGE = 32

Text = str | tuple[str, str]
"""An input: one text, or a text and its pair."""

CHANNEL_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 60_000),
    (
        "grpc.service_config",
        json.dumps(
            {
                "loadBalancingConfig": [{"round_robin": {}}],
                "methodConfig": [
                    {
                        "name": [
                            {"service": "offramp.v1.ClassifierService", "method": "ClassifyText"},
                            {"service": "offramp.v1.ModelService"},
                        ],
                        "retryPolicy": {
                            "maxAttempts": 4,
                            "initialBackoff": "0.05s",
                            "maxBackoff": "1s",
                            "backoffMultiplier": 2,
                            "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
                        },
                    }
                ],
            }
        ),
    ),
)
"""Retries are gRPC's own: of what never ran, after the delay that the server asks for."""


class Priority(StrEnum):
    """Whether somebody waits for this one answer, or it is one of many."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class DeadlineAction(StrEnum):
    """What to do when the timeout comes before a confident answer."""

    BEST_ANSWER = "best_answer"
    FAIL = "fail"


class Options(TypedDict, total=False):
    """How to classify; the server's defaults hold for what is not given.

    Give `threshold` (leave at the first exit that is this confident, 0 to 1; 1 is full depth) or
    `max_accuracy_drop` (stay within this share of full depth's accuracy, 0.005 is half a point),
    not both. `min_exit` and `max_exit` are exit indices from 0.
    """

    model: str
    threshold: float
    max_accuracy_drop: float
    min_exit: int
    max_exit: int
    priority: Priority
    deadline_action: DeadlineAction
    all_probabilities: bool


PRIORITIES = {
    Priority.INTERACTIVE: pb.PRIORITY_INTERACTIVE,
    Priority.BULK: pb.PRIORITY_BULK,
}
DEADLINE_ACTIONS = {
    DeadlineAction.BEST_ANSWER: pb.DEADLINE_ACTION_BEST_ANSWER,
    DeadlineAction.FAIL: pb.DEADLINE_ACTION_FAIL,
}
REASONS = {
    pb.EXIT_REASON_CONFIDENT: ExitReason.CONFIDENT,
    pb.EXIT_REASON_FINAL: ExitReason.FINAL,
    pb.EXIT_REASON_DEADLINE: ExitReason.DEADLINE,
    pb.EXIT_REASON_LIMIT: ExitReason.LIMIT,
}


def options_message(options: Options) -> pb.ClassifyOptions:
    """The wire form of options; raises TypeError or ValueError on what is no option."""
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(f"unknown options {sorted(unknown)}")
    if "threshold" in options and "max_accuracy_drop" in options:
        raise ValueError("give threshold or max_accuracy_drop, not both")
    message = pb.ClassifyOptions(
        model=options.get("model", ""),
        min_exit=options.get("min_exit"),
        max_exit=options.get("max_exit"),
        all_probabilities=options.get("all_probabilities"),
    )
    if "threshold" in options:
        message.threshold = options["threshold"]
    if "max_accuracy_drop" in options:
        message.max_accuracy_drop = options["max_accuracy_drop"]
    if "priority" in options:
        message.priority = PRIORITIES[Priority(options["priority"])]
    if "deadline_action" in options:
        message.deadline_action = DEADLINE_ACTIONS[DeadlineAction(options["deadline_action"])]
    return message


def text_input(text: Text) -> pb.TextInput:
    """The wire form of one input; raises InvalidRequestError if UTF-8 can't encode it."""
    try:
        match text:
            case str():
                return pb.TextInput(text=text)
            case (str(first), str(second)):
                return pb.TextInput(text=first, text_pair=second)
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"not a text: {error}", INVALID_ARGUMENT) from error
    raise TypeError(f"an input is a text or a pair of texts, not {type(text).__name__}")


def unary_request(text: Text, options: Options) -> service_pb.ClassifyTextRequest:
    """A call for one input."""
    return service_pb.ClassifyTextRequest(
        inputs=[text_input(text)], options=options_message(options)
    )


def correlated_input(index: int, text: Text) -> service_pb.CorrelatedInput:
    """An input of a stream; its correlation id is its index."""
    try:
        return service_pb.CorrelatedInput(correlation_id=str(index), input=text_input(text))
    except InvalidRequestError as error:
        error.index = index
        raise


def outcome_of(result: pb.ClassifyResult, index: int = 0) -> Answer | OfframpError:
    """What became of one input."""
    if result.WhichOneof("outcome") != "classification":
        error = error_from_status(result.error)
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


def outcomes_of(
    response: service_pb.StreamClassifyTextResponse,
) -> Iterator[tuple[int, Answer | OfframpError]]:
    """The indices and outcomes in one message of a stream."""
    for found in response.results:
        index = int(found.correlation_id)
        yield index, outcome_of(found.result, index)


def answer_of(response: service_pb.ClassifyTextResponse) -> Answer:
    """The answer of a call for one input; raises its OfframpError."""
    outcome = outcome_of(response.results[0])
    if isinstance(outcome, OfframpError):
        raise outcome
    return outcome


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
            )
            for point in model.trade_offs
        ),
    )
