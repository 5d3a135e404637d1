"""What may be asked for, in the words of the contract."""

from enum import StrEnum
from typing import TypedDict

from offramp.v1 import classification_pb2 as pb

EXITS = 2**31
"""More than any model has; the wire can't count further."""


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

    Give `threshold` (leave at the first exit whose score reaches it, 0 to 1; 1 is full depth) or
    `max_accuracy_drop` (stay within this share of full depth's accuracy, 0.005 is half a point),
    not both. `min_exit` and `max_exit` are exit indices from 0.

    `model` is the name of one that is served. `priority` says whether somebody waits for this
    answer (INTERACTIVE) or it is one of many (BULK); `deadline_action` whether a timeout gives the
    best answer there is by then (BEST_ANSWER) or fails (FAIL). With `all_probabilities` the answer
    has those of every label.
    """

    model: str
    threshold: float
    max_accuracy_drop: float
    min_exit: int
    max_exit: int
    priority: Priority
    deadline_action: DeadlineAction
    all_probabilities: bool


def options_message(options: Options) -> pb.ClassifyOptions:
    """The wire form of options; raises TypeError or ValueError on what is no option."""
    _check(options)
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
        message.priority = pb.Priority.Value(f"PRIORITY_{Priority(options['priority']).name}")
    if "deadline_action" in options:
        action = DeadlineAction(options["deadline_action"])
        message.deadline_action = pb.DeadlineAction.Value(f"DEADLINE_ACTION_{action.name}")
    return message


def _check(options: Options) -> None:
    """Raise TypeError or ValueError, in words, on what is no option."""
    if unknown := options.keys() - Options.__annotations__.keys():
        known = ", ".join(Options.__annotations__)
        raise TypeError(f"unknown options {sorted(unknown)}; there are {known}")
    if "threshold" in options and "max_accuracy_drop" in options:
        raise ValueError("give threshold or max_accuracy_drop, not both")
    for name in ("min_exit", "max_exit"):
        exit_index = options.get(name, 0)
        if not isinstance(exit_index, int):
            raise TypeError(f"{name} must be the index of an exit, not {exit_index!r}")
        if not 0 <= exit_index < EXITS:
            raise ValueError(f"{name} must be the index of an exit, from 0, not {exit_index}")
    if not isinstance(model := options.get("model", ""), str):
        raise TypeError(f"model must be a name, not {model!r}")
    if not isinstance(every := options.get("all_probabilities", False), bool):
        raise TypeError(f"all_probabilities must be True or False, not {every!r}")
    for name in ("threshold", "max_accuracy_drop"):
        if not isinstance(given := options.get(name, 0.0), int | float):
            raise TypeError(f"{name} must be a number, not {given!r}")
        try:
            float(given)
        except OverflowError:
            raise ValueError(f"{name} must be a number from 0 to 1") from None
