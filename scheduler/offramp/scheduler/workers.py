"""Which workers run a batch, and when each is predicted to be free."""

from math import inf

from offramp.scheduler.backend import Batch
from offramp.scheduler.request import Request


class Workers:
    """The batches that run, by the request each is first with; may be one more than workers."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._ends: dict[Request, float] = {}
        self._finished = 0.0

    @property
    def running(self) -> int:
        """Batches that run."""
        return len(self._ends)

    @property
    def free(self) -> int:
        """Workers that run nothing; below 0 where a batch waits for one."""
        return self._count - len(self._ends)

    @property
    def free_at(self) -> float:
        """When the first worker is predicted to be free of all that runs; 0 if one is."""
        return 0.0 if self.free > 0 else sorted(self._ends.values())[-self.free]

    @property
    def due(self) -> float:
        """When the first of all that runs is predicted to end; infinite if nothing runs."""
        return min(self._ends.values(), default=inf)

    def next_free(self, now: float) -> float:
        """When another worker is predicted to be free than the one that runs what is cut now."""
        if self.free > 1:
            return now
        ends = sorted(self._ends.values())[1 - self.free :]
        return ends[0] if ends else inf

    @property
    def finished(self) -> float:
        """When a step ended last."""
        return self._finished

    def begin(self, first: Request, end: float) -> None:
        """A batch with this request first runs until `end`, by prediction."""
        self._ends[first] = end

    def finish(self, batch: Batch, now: float) -> float:
        """Seconds that a step ran; on a single worker it may have waited for the one before."""
        del self._ends[batch.requests[0]]
        waited = self._finished if self._count == 1 else 0.0
        self._finished = max(now, self._finished)
        return now - max(batch.started, waited)
