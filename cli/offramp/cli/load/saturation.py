"""The highest rate at which the queue does not grow."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TypeVar

from offramp.cli.load.arrivals import Pattern, arrivals
from offramp.cli.load.run import Sample, closed_loop, open_loop
from offramp.cli.load.target import Target

IN_FLIGHT = 64
"""Messages under way in the closed loop that says where to search."""

STEPS, MOST_STEPS = 4, 12
"""Rates that are tried, and more, up to the most, until one is sustained and one is not."""

TOLERANCE = 0.03

Input = TypeVar("Input")


REFUSED = 0.01
"""Share of errors from which a rate is more than a server sustains."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One rate tried: whether the queue grew, what was answered a second, and errors by name."""

    rate: float
    answered: float
    grew: bool
    errors: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Saturation:
    """What was found, what a closed loop answered a second, and the rates that were tried."""

    rate: float
    closed_loop: float
    probes: tuple[Probe, ...]

    def __str__(self) -> str:
        """The rate, and whether it is only known to be higher or lower."""
        rates = [probe.rate for probe in self.probes]
        if not self.rate:
            return f"below {min(rates):.1f}"
        return f"{'' if bounded(self.probes) else 'at least '}{self.rate:.1f}"


def sustained(probes: Sequence[Probe]) -> float:
    """The most that was answered at a rate at which nothing grew; 0 if there is none.

    Where chance, or the end of a short probe, hides that a queue grows a little, the answers a
    second do not: they are never more than what a server can do.
    """
    return max((min(probe.rate, probe.answered) for probe in probes if not probe.grew), default=0.0)


def bounded(probes: Sequence[Probe]) -> bool:
    """Whether one of the rates was sustained and another was not."""
    return len({probe.grew for probe in probes}) == 2


def grew(samples: Sequence[Sample], seconds: float) -> bool:
    """Whether more was outstanding late in a run than in its middle, beyond chance.

    Counted is what was due and not done, averaged over the last and over the middle third. More
    than a few errors count as growth: a server that refuses is beyond what it sustains.
    """
    if sum(bool(sample.error) for sample in samples) > REFUSED * len(samples):
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

    It begins at 0.95 of that, goes up by a tenth while nothing grows and, while everything does,
    down by a fifth or to what was answered; it halves what is left once it knows of both. `probes`
    are those so far.
    """

    def __init__(
        self, closed: float, steps: int = STEPS, probes: list[Probe] | None = None
    ) -> None:
        self.rate = 0.95 * closed
        self.probes = [] if probes is None else probes
        self._steps = steps
        self._low, self._high = 0.0, inf

    @property
    def done(self) -> bool:
        """Whether there were as many as were asked for, or more until both were seen."""
        wanted = self._steps if bounded(self.probes) else max(self._steps, MOST_STEPS)
        return len(self.probes) >= wanted

    def learn(self, probe: Probe) -> None:
        """Choose the next rate, once this one is known."""
        self.probes.append(probe)
        if probe.grew:
            self._high = probe.rate
        else:
            self._low = probe.rate
        if self._high == inf:
            self.rate = 1.1 * self._low
        elif not self._low:
            self.rate = min(0.8 * self._high, max(probe.answered, 0.1 * self._high))
        else:
            self.rate = (self._low + self._high) / 2


async def saturation(
    target: Target[Input],
    texts: Sequence[Input],
    seconds: float,
    steps: int = STEPS,
    probes: list[Probe] | None = None,
) -> Saturation:
    """Look for the rate with so many probes of so many seconds, after a short closed loop.

    Each is put into `probes` as it is done: whoever is interrupted has those until then.
    """
    closed = answered(await closed_loop(target, texts, IN_FLIGHT, seconds / 4))
    if not closed:
        raise ValueError(f"with {IN_FLIGHT} texts under way none was answered: there is no rate")
    search = Search(closed, steps, probes)
    while not search.done:
        due = arrivals(Pattern.POISSON, max(search.rate, 0.1), seconds, seed=len(search.probes))
        if not due:
            break
        samples = await open_loop(target, texts, due)
        errors = Counter(sample.error for sample in samples if sample.error)
        found = Probe(search.rate, answered(samples), grew(samples, seconds), dict(errors))
        search.learn(found)
    return Saturation(sustained(search.probes), closed, tuple(search.probes))


def _outstanding(samples: Sequence[Sample], start: float, end: float) -> float:
    """Mean number of messages due and not done between two times."""
    held = sum(max(0.0, min(s.done, end) - max(s.due, start)) for s in samples)
    return held / (end - start)
