"""Relief under overload: lower thresholds for a while, and back up."""

from collections.abc import Sequence

from offramp.scheduler.request import Terms

CALM = 0.2
"""Overload is over below this share of the delay at which it began."""


class Relief:
    """Goes down a list of thresholds while the queue stays long, and back up.

    Overload is a predicted delay above `delay` seconds. Thresholds fall to the next of `thresholds`
    whenever it has lasted for `hold` seconds, `delay` if none are given, and rise by one for each
    `hold` that the predicted delay was below `CALM` of that; a server with nothing to do is calm.
    """

    def __init__(
        self, thresholds: Sequence[float] = (), delay: float = 0.5, hold: float | None = None
    ) -> None:
        if not delay > 0:
            raise ValueError(f"the delay that is overload must be above 0, not {delay}")
        self._thresholds = sorted(set(thresholds), reverse=True)
        self._high, self._low = delay, CALM * delay
        self._hold = delay if hold is None else hold
        self._level = 0
        self._trend = 0
        self._since = 0.0

    @property
    def active(self) -> bool:
        """Whether there is anything to lower."""
        return bool(self._thresholds)

    @property
    def level(self) -> int:
        """Thresholds down the list; 0 is none."""
        return self._level

    def observe(self, delay: float, now: float) -> None:
        """Learn the predicted delay of the queue at a time; thresholds fall by at most one."""
        if self._trend < 0:
            # What was calm when last looked at was so until now, however long nobody came.
            rises = min(int((now - self._since) / self._hold), self._level)
            self._level -= rises
            self._since += rises * self._hold
        trend = 1 if delay > self._high else -1 if delay < self._low else 0
        if not 0 <= self._level + trend <= len(self._thresholds):
            trend = 0
        if trend != self._trend:
            self._trend, self._since = trend, now
        elif trend > 0 and now - self._since >= self._hold:
            self._level += 1
            self._since = now

    def threshold(self, terms: Terms) -> float:
        """The threshold that holds for a request now: its own, or a lower one."""
        if not self._level:
            return terms.threshold
        return min(terms.threshold, self._thresholds[self._level - 1])
