"""Why a request got no answer: one tree, which the server maps to status codes."""


class SchedulerError(Exception):
    """A request that the scheduler refused or could not finish."""


class QueueFullError(SchedulerError):
    """No room in the queue; it is predicted to be worked off in `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"the queue is full; retry in {retry_after:.3f} s")
        self.retry_after = retry_after


class DeadlineUnreachableError(SchedulerError):
    """Refused before any work: the first exit is predicted (seconds) after the deadline."""

    def __init__(self, predicted: float, remaining: float) -> None:
        super().__init__(
            f"the first exit is predicted in {predicted:.4f} s, the deadline is in"
            f" {max(remaining, 0.0):.4f} s; allow more time or send less"
        )
        self.predicted = predicted
        self.remaining = remaining


class DeadlineExceededError(SchedulerError):
    """The deadline came before an answer that the request would accept."""

    def __init__(self) -> None:
        super().__init__("the deadline came before a confident answer")


class DrainingError(SchedulerError):
    """The scheduler admits nothing any more; another server will."""

    def __init__(self) -> None:
        super().__init__("the server is draining; retry on another one")


class StepFailedError(SchedulerError):
    """The step that this request was in failed, or read nothing of it that can be told.

    `__cause__` is what the backend raised, or an ArithmeticError.
    """

    def __init__(self, cause: BaseException) -> None:
        super().__init__("the model failed on this request's batch")
        self.__cause__ = cause
