"""From the wire's options to the scheduler's terms, with every bound checked."""

from offramp.model.calibration import Calibration
from offramp.model.config import ModelConfig
from offramp.scheduler.request import DeadlineAction, Priority, Terms
from offramp.server.errors import InvalidRequestError
from offramp.v1 import classification_pb2 as pb

PRIORITIES = {pb.Priority.Value(f"PRIORITY_{one.name}"): one for one in Priority}
DEADLINE_ACTIONS = {
    pb.DEADLINE_ACTION_UNSPECIFIED: DeadlineAction.BEST_ANSWER,
    **{pb.DeadlineAction.Value(f"DEADLINE_ACTION_{one.name}"): one for one in DeadlineAction},
}


def merged(common: pb.ClassifyOptions, own: pb.ClassifyOptions) -> pb.ClassifyOptions:
    """Options of one input: its own where set, else those of its message."""
    options = pb.ClassifyOptions()
    options.CopyFrom(common)
    options.MergeFrom(own)
    return options


def terms_of(
    options: pb.ClassifyOptions,
    model: ModelConfig,
    calibration: Calibration,
    default_priority: Priority,
    deadline: float,
) -> Terms:
    """What a request asks for, with the model's defaults; raises InvalidRequestError.

    `deadline` is absolute on the scheduler's clock, infinite where the call has none.
    """
    last = model.exits - 1
    min_exit = options.min_exit if options.HasField("min_exit") else 0
    max_exit = options.max_exit if options.HasField("max_exit") else last
    for name, value in (("min_exit", min_exit), ("max_exit", max_exit)):
        if value > last:
            raise InvalidRequestError(f"options.{name}", f"must be 0 to {last}, not {value}")
    if min_exit > max_exit:
        raise InvalidRequestError(
            "options.min_exit", f"must not be above max_exit, but {min_exit} is above {max_exit}"
        )
    if options.priority and options.priority not in PRIORITIES:
        raise InvalidRequestError("options.priority", f"unknown value {options.priority}")
    if options.deadline_action not in DEADLINE_ACTIONS:
        raise InvalidRequestError(
            "options.deadline_action", f"unknown value {options.deadline_action}"
        )
    return Terms(
        threshold=_threshold(options, calibration),
        min_exit=min_exit,
        max_exit=max_exit,
        priority=PRIORITIES.get(options.priority, default_priority),
        deadline=deadline,
        deadline_action=DEADLINE_ACTIONS[options.deadline_action],
    )


def _threshold(options: pb.ClassifyOptions, calibration: Calibration) -> float:
    rule = options.WhichOneof("exit_rule")
    if rule is None:
        return calibration.default_threshold
    value = options.threshold if rule == "threshold" else options.max_accuracy_drop
    if not 0 <= value <= 1:
        raise InvalidRequestError(f"options.{rule}", f"must be in 0 to 1, not {value}")
    if rule == "threshold":
        return value
    try:
        return calibration.threshold_within(value)
    except LookupError as error:
        raise InvalidRequestError("options.max_accuracy_drop", str(error)) from error
