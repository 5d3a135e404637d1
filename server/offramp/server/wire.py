"""From the scheduler's answers and the model's configuration to messages."""

from typing import TypeAlias

from google.protobuf.duration_pb2 import Duration

from offramp.model.checkpoint import Checkpoint
from offramp.scheduler.request import Answer, ExitReason
from offramp.server.prepare import Prepared
from offramp.server.statuses import status_of
from offramp.v1 import classification_pb2 as pb
from offramp.v1 import model_service_pb2 as models_pb

REASONS = {reason: pb.ExitReason.Value(f"EXIT_REASON_{reason.name}") for reason in ExitReason}


Outcome: TypeAlias = "tuple[Prepared, Answer] | BaseException"
"""What became of an input: what it asked for and its answer, or an error."""


def fill(result: pb.ClassifyResult, outcome: Outcome) -> None:
    """Set the result of an input.

    Fields are set one by one, in the message that is sent: one that is handed to a constructor or
    appended is copied, at four times the cost.
    """
    if isinstance(outcome, BaseException):
        result.error.CopyFrom(status_of(outcome))
        return
    prepared, answer = outcome
    checkpoint, reading = prepared.model.checkpoint, answer.reading
    config = checkpoint.config
    said = result.classification
    said.label = config.labels[reading.label]
    said.label_index = reading.label
    said.confidence = reading.confidence
    if prepared.all_probabilities:
        said.probabilities.extend(reading.probabilities)
    left, timing = said.exit, said.timing
    left.index = answer.exit
    left.exits = config.exits
    left.layer = config.exit_layers[answer.exit]
    left.layers = config.encoder.layers
    left.reason = REASONS[answer.reason]
    said.tokens = len(prepared.tokens)
    said.truncated = prepared.tokens.truncated
    _set(timing.queue, answer.queue)
    _set(timing.compute, answer.compute)
    _set(timing.total, answer.total)
    said.model = checkpoint.name
    said.threshold = answer.threshold


def model_message(checkpoint: Checkpoint) -> models_pb.Model:
    """What ListModels and GetModel tell of a checkpoint."""
    config, calibration = checkpoint.config, checkpoint.calibration
    return models_pb.Model(
        name=checkpoint.name,
        labels=config.labels,
        exits=[
            models_pb.ModelExit(layer=layer, temperature=temperature)
            for layer, temperature in zip(config.exit_layers, calibration.temperatures, strict=True)
        ],
        layers=config.encoder.layers,
        token_limit=config.max_tokens,
        default_threshold=calibration.default_threshold,
        digest=checkpoint.digest,
        trade_offs=[
            models_pb.TradeOff(
                threshold=point.threshold,
                accuracy=point.accuracy,
                accuracy_drop=point.accuracy_drop,
                agreement=point.agreement,
                mean_layers=point.mean_layers,
                layer_speedup=point.layer_speedup,
                accuracy_drop_bound=point.accuracy_drop_bound,
                disagreement_bound=point.disagreement_bound,
            )
            for point in calibration.table
        ],
    )


def _set(duration: Duration, seconds: float) -> None:
    duration.seconds, duration.nanos = divmod(max(0, int(seconds * 1e9)), 1_000_000_000)
