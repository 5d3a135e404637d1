"""Relief under overload: lower thresholds for a while, down to the operator's accuracy floor."""

from collections.abc import Sequence

from offramp.scheduler.request import Terms


class Relief:
    """Goes down the checkpoint's trade-off table while the queue stays long, and back up.

    `table` holds pairs of threshold and accuracy drop against full depth; only rows that lose at
    most `accuracy_floor` are used, so an empty table or a floor of 0 is no relief at all. The
    threshold falls by one row whenever the predicted delay has been above `high` seconds for
    `hold` seconds, and rises by one when it has been below `low` for as long.
    """

    def __init__(
        self,
        table: Sequence[tuple[float, float]] = (),
        accuracy_floor: float = 0.0,
        *,
        high: float = 0.5,
        low: float = 0.1,
        hold: float = 1.0,
    ) -> None:
        if not 0 <= low < high:
            raise ValueError(f"relief needs 0 <= low < high, not {low} and {high}")
        if not 0 <= accuracy_floor <= 1:
            raise ValueError(f"the accuracy floor must be a drop of 0 to 1, not {accuracy_floor}")
        allowed = {threshold for threshold, drop in table if drop <= accuracy_floor}
        self._rows = sorted(allowed, reverse=True) if accuracy_floor else []
        self._high, self._low, self._hold = high, low, hold
        self._level = 0
        self._trend = 0
        self._since = 0.0

    @property
    def active(self) -> bool:
        """Whether there is anything to lower."""
        return bool(self._rows)

    @property
    def level(self) -> int:
        """Rows down the table; 0 is none."""
        return self._level

    def observe(self, delay: float, now: float) -> None:
        """Learn the predicted delay of the queue at a time; the level moves by at most one."""
        trend = 1 if delay > self._high else -1 if delay < self._low else 0
        if not 0 <= self._level + trend <= len(self._rows):
            trend = 0
        if trend != self._trend:
            self._trend, self._since = trend, now
        elif trend and now - self._since >= self._hold:
            self._level += trend
            self._since = now

    def threshold(self, terms: Terms) -> float:
        """The threshold that holds for a request now: its own, or a lower one."""
        if not self._level:
            return terms.threshold
        return min(terms.threshold, self._rows[self._level - 1])
