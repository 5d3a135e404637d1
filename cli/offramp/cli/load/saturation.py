"""The highest rate at which the queue does not grow."""

from collections.abc import Sequence
from dataclasses import dataclass

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


async def saturation(
    target: Target, texts: Sequence[str], seconds: float, steps: int = STEPS
) -> Saturation:
    """Bracket the rate by a closed loop, then search between 0.6 and 1.1 of what that reached.

    Each of `steps` probes lasts `seconds` and halves what is left, after a first at 0.95.
    """
    closed = answered(await closed_loop(target, texts, IN_FLIGHT, seconds / 4))
    low, high = 0.6 * closed, 1.1 * closed
    probes: list[Probe] = []
    best = 0.0
    rate = 0.95 * closed
    for step in range(steps):
        due = arrivals(Pattern.POISSON, max(rate, 0.1), seconds, seed=step)
        samples = await open_loop(target, texts, due)
        probe = Probe(rate, answered(samples), grew(samples, seconds))
        probes.append(probe)
        if probe.grew:
            high = rate
        else:
            best, low = max(best, rate), rate
        rate = (low + high) / 2
    return Saturation(best, closed, tuple(probes))


def _outstanding(samples: Sequence[Sample], start: float, end: float) -> float:
    """Mean number of messages due and not done between two times."""
    held = sum(max(0.0, min(s.done, end) - max(s.due, start)) for s in samples)
    return held / (end - start)
