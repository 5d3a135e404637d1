"""Departures on their way to those who wait for them."""

from collections import deque
from collections.abc import Sequence

from offramp.scheduler.observer import Observer
from offramp.scheduler.request import Departure

AT_A_TIME, SHARE = 32, 4
"""Departures that are told of between two looks at what the device does, or one in so many."""


class Deliveries:
    """Tells who left, in their order and a few at a time.

    Whoever is told does more work in the same loop, and often sends the next request. Of a step
    that hundreds leave together that takes longer than the device's next steps. The more wait the
    more are told of at a time, so that steps that end meanwhile do not make them ever more.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._waiting: deque[Departure] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, departures: Sequence[Departure]) -> None:
        """Departures that `some` tells of, after those that wait already."""
        self._waiting.extend(departures)

    def some(self) -> None:
        """Tell of the next few."""
        waiting, departed = self._waiting, self._observer.departed
        for _ in range(min(len(waiting), max(AT_A_TIME, len(waiting) // SHARE))):
            departure = waiting.popleft()
            departed(departure)
            departure.deliver()
