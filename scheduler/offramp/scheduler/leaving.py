"""How a request leaves: at an exit that is sure enough, or before its deadline."""

from offramp.scheduler.errors import (
    DeadlineExceededError,
    DeadlineUnreachableError,
    SchedulerError,
    StepFailedError,
)
from offramp.scheduler.relief import Relief
from offramp.scheduler.request import Answer, DeadlineAction, ExitReason, Request


def leaves(
    request: Request, score: float, relief: Relief, last: int, now: float
) -> Answer | StepFailedError | None:
    """How a request leaves that was just read, if it does.

    `score` is what its reading says, `last` is the last stage. The request's own threshold is asked
    first, so that an answer is marked as given under overload only where that made the difference.
    """
    terms, stage = request.terms, request.stage
    if score != score:  # noqa: PLR0124 - of all numbers, only an undefined one
        return StepFailedError(ArithmeticError(f"the model gave undefined numbers at exit {stage}"))
    if stage >= terms.min_exit:
        if score >= terms.threshold:
            return request.answer(ExitReason.CONFIDENT, now)
        if relief.level and score >= (lowered := relief.threshold(terms)):
            return request.answer(ExitReason.OVERLOAD, now, lowered)
    if stage == last:
        return request.answer(ExitReason.FINAL, now)
    return request.answer(ExitReason.LIMIT, now) if stage >= terms.max_exit else None


def late(request: Request, now: float, horizon: float) -> Answer | SchedulerError:
    """What becomes of a request that no step can bring further in time.

    `horizon` is when the step that it would have to run in, or wait for, is predicted to end.
    """
    terms = request.terms
    if request.read_at < 0 and now < terms.deadline:
        return DeadlineUnreachableError(horizon - now, terms.deadline - now)
    if request.read_at < 0 or terms.deadline_action is DeadlineAction.FAIL:
        return DeadlineExceededError()
    return request.answer(ExitReason.DEADLINE, now)
