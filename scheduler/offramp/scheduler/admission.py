"""When a request submitted now would begin its first stage."""

from collections.abc import Sequence

from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.line import Line
from offramp.scheduler.reach import Reach

MEMORY = 0.05
"""Weight of a new first exit in the correction."""

LEAST, MOST = 0.05, 4.0
"""The correction stays between these."""


class Admission:
    """Predicts the delay of a queue from the cost model, corrected by what delays came true.

    The queue ahead and all that is between stages is priced as full batches on their way through
    every stage, on all workers at once. The policy decides how much of this really comes first; the
    correction, the mean of actual over predicted seconds until the first stage begins, learns it
    where a full batch or more was ahead: of less, most of the wait is for the step that runs.
    """

    def __init__(
        self, cost: CostModel, reach: Reach, lines: Sequence[Line], config: SchedulerConfig
    ) -> None:
        self._cost = cost
        self._reach = reach
        self._later = lines[1:]
        self._rows = config.max_batch_rows
        self._tokens = float(config.max_batch_tokens)
        self._workers = config.workers
        self._length = 0.0
        self._rates = [0.0] * len(lines)
        self._admitted: float | None = 0.0
        self.busy_until = 0.0
        self.correction = 1.0

    def meet(self, tokens: int) -> None:
        """Learn how long requests are, from one that was submitted."""
        self._length += MEMORY * (tokens - self._length) if self._length else tokens

    def price(self) -> None:
        """Look again at what a token costs from each stage to its exit, in full batches."""
        full = min(self._tokens, self._rows * (self._length or self._tokens))
        rate = 0.0
        for stage in reversed(range(len(self._rates))):
            rate *= self._reach.stay(stage)
            rate += self._cost.predict(stage, None, full) / full
            self._rates[stage] = rate
        self._admitted = None

    def changed(self) -> None:
        """Hear that the lines between stages changed; they are added up when next asked for."""
        self._admitted = None

    def rate(self, stage: int) -> float:
        """Seconds that a token costs from a stage to its exit."""
        return self._rates[stage]

    def delay(self, ahead_tokens: int, now: float) -> float:
        """Seconds until a worker is free and this much queue is worked off."""
        if not self._rates[0]:
            self.price()
        if self._admitted is None:
            self._admitted = self._between()
        work = self._work(ahead_tokens, self._admitted)
        return work + self.busy_until - now if self.busy_until > now else work

    def work(self, ahead_tokens: int) -> float:
        """Seconds of work in this much queue and in all that is between stages.

        For other threads than the scheduler's too: it changes nothing.
        """
        return self._work(ahead_tokens, self._between())

    def learn(self, predicted: float, actual: float) -> None:
        """Compare the seconds until a first stage with what `delay` said of them."""
        full = min(self._tokens, self._rows * (self._length or self._tokens))
        batch = self.correction * full * self._rates[0] / self._workers
        if 0 < predicted >= batch:
            right = self.correction * min(max(actual / predicted, 0.5), 2.0)
            self.correction += MEMORY * (min(max(right, LEAST), MOST) - self.correction)

    def _between(self) -> float:
        """Seconds of work between stages, uncorrected."""
        seconds = 0.0
        for stage, line in enumerate(self._later, start=1):
            seconds += line.tokens * self._rates[stage]
        return seconds

    def _work(self, ahead_tokens: int, between: float) -> float:
        return self.correction * (ahead_tokens * self._rates[0] + between) / self._workers
