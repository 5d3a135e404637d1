"""When requests are due: seconds from the start, ascending, decided before anything is sent."""

import json
import random
from collections.abc import Iterator
from enum import StrEnum
from math import isfinite
from pathlib import Path

BURST = 0.5
"""Seconds that the busy and the calm phase of bursty arrivals last on average."""

CONTRAST = 10.0
"""Rate in a busy phase over the rate in a calm one."""


class Pattern(StrEnum):
    """How arrivals come that no trace gives."""

    POISSON = "poisson"
    BURSTY = "bursty"


def arrivals(pattern: Pattern, rate: float, seconds: float, seed: int = 0) -> list[float]:
    """Due times over `seconds` at `rate` a second on average."""
    if not (rate > 0 and seconds > 0):
        raise ValueError(f"rate and seconds must be positive, not {rate:g} and {seconds:g}")
    draw = random.Random(seed)
    if pattern is Pattern.POISSON:
        return list(_poisson(draw, rate, 0.0, seconds))
    phases: list[tuple[float, float, float]] = []  # start, end, and how busy
    start, busy = 0.0, bool(draw.getrandbits(1))
    while start < seconds:
        end = min(seconds, start + draw.expovariate(1 / BURST))
        phases.append((start, end, CONTRAST if busy else 1.0))
        start, busy = end, not busy
    # However long its busy phases came out, a run has the rate that was asked for.
    calm = rate * seconds / sum((end - start) * more for start, end, more in phases)
    return [at for start, end, more in phases for at in _poisson(draw, calm * more, start, end)]


def read_trace(path: Path) -> list[float]:
    """Due times from a file: one number a line, or a JSON list; counted from the first.

    Raises ValueError where it is neither, OSError where it can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
        found = json.loads(text) if text.startswith("[") else text.split()
        times = sorted(float(value) for value in found)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no trace (one number of seconds a line): {error}") from error
    if not times or not all(map(isfinite, times)):
        raise ValueError(f"{path} must hold times, finite ones")
    return [value - times[0] for value in times]


def _poisson(draw: random.Random, rate: float, start: float, end: float) -> Iterator[float]:
    now = start + draw.expovariate(rate)
    while now < end:
        yield now
        now += draw.expovariate(rate)
