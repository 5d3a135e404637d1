"""Made-up or recorded requests for the simulator: when they come and where they will leave."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from math import inf
from typing import Literal

from offramp.scheduler.reading import Reading
from offramp.scheduler.request import DeadlineAction, Departure, Priority, Request, Terms

THRESHOLD = 0.5
STAYS, LEAVES = Reading(0, 0.0, (0.0,)), Reading(0, 1.0, (1.0,))
BURST = 10.0
"""A bursty process comes this many times faster while it is on than while it is off."""

BURST_REQUESTS = 50
"""Mean requests of one burst; the time between bursts brings as many."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests to simulate; times in seconds, `rate` in requests a second.

    `shares` leave at each exit and lengths are drawn from `tokens`; or each request is as one of
    the `samples`, pairs of exit and tokens. `deadline` counts from arrival, `bulk` is the share of
    bulk requests. Of several `replicas` it is what one of them gets, each arrival dealt by chance.
    Raises ValueError of what cannot be meant.
    """

    rate: float
    shares: Sequence[float]
    requests: int
    seed: int = 1
    arrivals: Literal["poisson", "bursty"] = "poisson"
    trace: Sequence[float] = ()
    deadline: float = inf
    deadline_action: DeadlineAction = DeadlineAction.BEST_ANSWER
    bulk: float = 0.0
    tokens: Sequence[int] = (1,)
    samples: Sequence[tuple[int, int]] = ()
    exits: bool = True
    replicas: int = 1

    def __post_init__(self) -> None:
        if abs(sum(self.shares) - 1) > 1e-6 or min(self.shares) < 0:
            raise ValueError(f"exit shares must be at least 0 and sum to 1, not {self.shares}")
        if not self.rate > 0:
            raise ValueError(f"the rate must be above 0, not {self.rate}")
        if self.requests < 1 or self.replicas < 1:
            raise ValueError(
                f"requests and replicas must be at least 1, not {self.requests} and {self.replicas}"
            )
        if any(later < earlier for earlier, later in zip(self.trace, self.trace[1:], strict=False)):
            raise ValueError("a recorded trace must be in order of time")

    @property
    def mean_tokens(self) -> float:
        """Tokens of a request on average."""
        lengths = [length for _, length in self.samples] or self.tokens
        return sum(lengths) / len(lengths)

    def generate(self) -> list[Request]:
        """The requests in order of arrival; the same for the same seed."""
        chance = random.Random(self.seed)
        exits = range(len(self.shares))
        if self.samples:
            drawn = chance.choices(self.samples, k=self.requests)
        else:
            left = chance.choices(exits, self.shares, k=self.requests)
            drawn = list(zip(left, chance.choices(self.tokens, k=self.requests), strict=True))
        threshold = THRESHOLD if self.exits else inf
        requests: list[Request] = []
        for arrived, (exit_index, tokens) in zip(self._times(chance), drawn, strict=False):
            bulk = self.bulk > 0 and chance.random() < self.bulk
            terms = Terms(
                threshold,
                min_exit=0,
                max_exit=len(exits) - 1,
                priority=Priority.BULK if bulk else Priority.INTERACTIVE,
                deadline=arrived + self.deadline,
                deadline_action=self.deadline_action,
            )
            requests.append(Request(exit_index, tokens, terms, arrived, deliver=_ignore))
        return requests

    def _times(self, chance: random.Random) -> Iterator[float]:
        """When requests come; there is always a first."""
        if not self.trace:
            return islice(self._made_up(chance), self.requests)
        deal = random.Random(self.seed)
        first, *others = self.trace
        own = (at for at in others if self.replicas == 1 or deal.random() * self.replicas < 1)
        return islice(chain([first], own), self.requests)

    def _made_up(self, chance: random.Random) -> Iterator[float]:
        """Arrivals at one replica: as many, of a process whose bursts are those of all."""
        now = 0.0
        if self.arrivals == "poisson":
            while True:
                now += chance.expovariate(self.rate / self.replicas)
                yield now
        # On for a time t, off for BURST * t at a tenth of the rate: as many come on as off, and
        # the mean rate is `rate`.
        on_rate = self.rate * (1 + BURST) / 2
        on, rate = True, on_rate
        until = chance.expovariate(rate / BURST_REQUESTS)
        while True:
            while (following := now + chance.expovariate(rate / self.replicas)) > until:
                now, on = until, not on
                rate = on_rate if on else on_rate / BURST
                until = now + chance.expovariate(rate / BURST_REQUESTS)
            now = following
            yield now


def read(request: Request, stage: int) -> Reading:
    """What the exit of a stage says of a request made here: nothing until its own exit."""
    return LEAVES if stage == request.payload else STAYS


def _ignore(departure: Departure) -> None:
    del departure
