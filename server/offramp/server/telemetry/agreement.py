"""Whether early answers agree with full depth as often as the checkpoint's table promises.

A sample is one request, drawn at random, whose readings at every exit are known. From these it is
known what any threshold would have answered, so the last samples (the window) tell the agreement
of the thresholds that were asked for, whatever a guard had in force, and of every safer one.

Agreement is a share of the window; its interval is Wilson's (1927). There is *drift* from when
the interval lies below the promise until one of a standard error either side reaches it again.
The promise is the table's, one less its bound of disagreement: what agreement stays above with 95 %
confidence on texts like those of calibration; of several thresholds asked for, the mean. The
*guard* is a threshold of the table: it rises during drift to the next at which the window would
have kept the promise, and is 0, so without effect, otherwise.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from offramp.model.calibration import TradeOff
from offramp.scheduler.reading import Reading

WINDOW = 400
Z = 3.29
"""Of the interval, 99.9 %: it is looked at after every sample, so it must seldom err."""
Z_RECOVERED = 1.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A share of so many samples, and its Wilson interval."""

    share: float
    lower: float
    upper: float
    samples: int


def wilson(successes: int, samples: int, z: float = Z) -> Interval:
    """The Wilson score interval of a binomial share, of at least one sample."""
    share = successes / samples
    spread = z * z / samples
    centre = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / samples + spread / (4 * samples)) / (1 + spread)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), samples)


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: the threshold asked for, what the table promises of it, who would agree."""

    asked: float
    promise: float
    agrees: bool
    table: tuple[bool, ...]


class Agreement:
    """The window of samples, drift, and the guard.

    Nothing is concluded from less than an eighth of the window. `added` counts all samples.
    """

    def __init__(self, table: Sequence[TradeOff], window: int = WINDOW) -> None:
        self._thresholds = tuple(point.threshold for point in table)
        self._promises = tuple(1 - point.disagreement_bound for point in table)
        self.window = window
        self._least = max(1, window // 8)
        self._samples: deque[Sample] = deque(maxlen=window)
        self.interval: Interval | None = None
        self.promise: float | None = None
        self.drift = False
        self.guard = 0.0
        self.added = 0

    @property
    def promises_any(self) -> bool:
        """Whether there is a threshold of which the table promises anything."""
        return any(map(self.promises, self._thresholds))

    def promises(self, threshold: float) -> bool:
        """Whether the table promises anything at this threshold that early leaving can break."""
        place = bisect_right(self._thresholds, threshold) - 1
        return place >= 0 and threshold < 1 and self._promises[place] > 0

    def add(self, readings: Sequence[Reading], asked: float) -> None:
        """Add a request that asked for this threshold, by its readings at every exit."""
        final = readings[-1].label
        agree = [reading.label == final for reading in readings]

        def agrees(threshold: float) -> bool:
            early = (a for a, r in zip(agree, readings, strict=True) if r.score >= threshold)
            return next(early, True)

        self._add(asked, agrees(asked), tuple(map(agrees, self._thresholds)))

    def add_final(self, asked: float) -> None:
        """Add a request that went to full depth by itself: from what it asked on, all agree."""
        self._add(asked, True, (True,) * len(self._thresholds))  # noqa: FBT003

    def _add(self, asked: float, agrees: bool, table: tuple[bool, ...]) -> None:  # noqa: FBT001
        promise = self._promises[bisect_right(self._thresholds, asked) - 1]
        self.added += 1
        self._samples.append(Sample(asked, promise, agrees, table))
        count = len(self._samples)
        agreeing = sum(sample.agrees for sample in self._samples)
        self.interval = wilson(agreeing, count)
        self.promise = sum(sample.promise for sample in self._samples) / count
        if count < self._least:
            return
        if self.interval.upper < self.promise:
            self.drift = True
        elif wilson(agreeing, count, Z_RECOVERED).upper >= self.promise:
            self.drift = False
        self.guard = self._next_safer(self.promise * count) if self.drift else 0.0

    def _next_safer(self, least: float) -> float:
        """The guard, if `least` samples would have agreed with it, else the next that does."""
        for place, guard in enumerate(self._thresholds):
            if guard >= self.guard and least <= sum(
                sample.agrees if sample.asked >= guard else sample.table[place]
                for sample in self._samples
            ):
                return guard
        return self._thresholds[-1]
