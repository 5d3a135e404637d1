"""The highest rate at which the queue does not grow."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from offramp.cli.load.arrivals import Pattern, arrivals
from offramp.cli.load.run import Sample, closed_loop, open_loop
from offramp.cli.load.target import Target

IN_FLIGHT = 64
"""Messages under way in the closed loop that says where to search."""

STEPS = 4
TOLERANCE = 0.03


@dataclass(frozen=True, slots=True)
class Probe:
    """One rate tried: whether the queue grew, and what was answered a second."""

    rate: float
    answered: float
    grew: bool


@dataclass(frozen=True, slots=True)
class Saturation:
    """What was found: the rate (0 if none tried was sustained) and how."""

    rate: float
    closed_loop: float
    probes: tuple[Probe, ...]


def grew(samples: Sequence[Sample], seconds: float) -> bool:
    """Whether more was outstanding late in a run than in its middle, beyond chance.

    Counted is what was due and not done, averaged over the last and over the middle third. Errors
    count as growth: a server that refuses is beyond what it sustains.
    """
    if any(sample.error for sample in samples):
        return True
    middle = _outstanding(samples, seconds / 3, seconds * 2 / 3)
    late = _outstanding(samples, seconds * 2 / 3, seconds)
    rate = len(samples) / seconds
    return late - middle > max(4.0, TOLERANCE * rate * seconds / 3)


def answered(samples: Sequence[Sample]) -> float:
    """Answers a second, from the start to the last answer."""
    good = [sample for sample in samples if not sample.error]
    return len(good) / max(sample.done for sample in samples) if good else 0.0


class Search:
    """The next rate to try: what a closed loop reached says where to begin, not where to end.

    It begins at 0.95 of that, goes up by a tenth while nothing grows and down by a fifth while
    everything does, and halves what is left once it knows of both. Where no probe grew, the highest
    is a lower bound.
    """

    def __init__(self, closed: float) -> None:
        self.rate = 0.95 * closed
        self._low, self._high = 0.0, inf

    def learn(self, *, grew: bool) -> None:
        """Choose the next rate, once this one is known."""
        if grew:
            self._high = self.rate
        else:
            self._low = self.rate
        if self._high == inf:
            self.rate = 1.1 * self._low
        elif not self._low:
            self.rate = 0.8 * self._high
        else:
            self.rate = (self._low + self._high) / 2


async def saturation(
    target: Target, texts: Sequence[str], seconds: float, steps: int = STEPS
) -> Saturation:
    """Look for the rate with so many probes of so many seconds, after a short closed loop."""
    closed = answered(await closed_loop(target, texts, IN_FLIGHT, seconds / 4))
    search = Search(closed)
    probes: list[Probe] = []
    for step in range(steps):
        due = arrivals(Pattern.POISSON, max(search.rate, 0.1), seconds, seed=step)
        samples = await open_loop(target, texts, due)
        probes.append(Probe(search.rate, answered(samples), grew(samples, seconds)))
        search.learn(grew=probes[-1].grew)
    best = max((probe.rate for probe in probes if not probe.grew), default=0.0)
    return Saturation(best, closed, tuple(probes))


def _outstanding(samples: Sequence[Sample], start: float, end: float) -> float:
    """Mean number of messages due and not done between two times."""
    held = sum(max(0.0, min(s.done, end) - max(s.due, start)) for s in samples)
    return held / (end - start)
