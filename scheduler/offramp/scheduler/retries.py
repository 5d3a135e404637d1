"""Failed batches, to be run again in halves until whoever caused it is alone."""

from collections import deque
from collections.abc import Sequence

from offramp.scheduler.request import Request, State


class Retries:
    """Groups that run again before anything else, those of the last failure first.

    A batch of n with one culprit costs 2 n - 1 steps at most.
    """

    def __init__(self) -> None:
        self._groups: deque[tuple[int, Sequence[Request]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._groups)

    def halve(self, stage: int, requests: Sequence[Request]) -> None:
        """Let the requests of a failed batch run again, in two groups if there are two."""
        middle = (len(requests) + 1) // 2
        for half in (requests[middle:], requests[:middle]):
            for request in half:
                request.state = State.RETRYING
            if half:
                self._groups.append((stage, half))

    def take(self) -> tuple[int, Sequence[Request]]:
        """The next group and its stage; there must be one."""
        return self._groups.pop()
