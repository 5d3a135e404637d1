"""How many replicas a rate and a tail latency need, by simulation."""

from collections.abc import Iterator
from dataclasses import replace
from math import inf

from offramp.scheduler.experiment import Figures, Machine, run
from offramp.scheduler.rules import Rule
from offramp.scheduler.workload import Workload

MOST_REPLICAS = 4096


def fewest_replicas(
    rule: Rule, machine: Machine, workload: Workload, p99: float
) -> tuple[int, Figures] | None:
    """Fewest replicas, among which arrivals are dealt by chance, that answer all and keep the p99.

    And the figures of one of them; None if no number of up to MOST_REPLICAS does. Each has less
    to do than it can: a queue that grows for ever may be short still when a simulation ends.
    """
    capacity = inf
    if not workload.trace:
        capacity = machine.capacity(workload.shares, workload.mean_tokens)

    def figures_of(replicas: int) -> Figures:
        return run(rule, machine, replace(workload, replicas=replicas))

    def enough(replicas: int) -> bool:
        if workload.rate >= replicas * capacity:
            return False
        figures = figures_of(replicas)
        return figures.p99 <= p99 and not figures.refused and not figures.failed

    high = next((count for count in _doubling() if enough(count)), None)
    if high is None:
        return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high, figures_of(high)


def _doubling() -> Iterator[int]:
    count = 1
    while count <= MOST_REPLICAS:
        yield count
        count *= 2
