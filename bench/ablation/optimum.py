"""The least mean latency that any policy can reach, by relative value iteration.

The queue lengths of a small instance are a semi-Markov decision process: in state n = (n_0, ...,
n_K-1) the action (k, b) runs b <= min(n_k, B) requests of stage k for t = a + c b, in which Poisson
arrivals join stage 0; each of the b goes on with the probability of staying. A step costs the
requests held over its time, n t + rate t^2 / 2, so the least cost a unit of time is the least mean
number held and, by Little's law, rate times the least mean latency.

Solved by relative value iteration on the equivalent chain of equal steps (Schweitzer 1971): a sweep
takes the share eta / t of each action's outcome, eta the shortest step. From the empty system the
only action is to wait for an arrival and run it. Queues are cut off at a bound; what would go
beyond it stays there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import comb, exp

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Choice = Callable[[tuple[int, ...]], tuple[int, int]]
"""From queue lengths to the stage and the rows to run."""


@dataclass(frozen=True, slots=True)
class Instance:
    """Time in units of `row_cost`; `shares` leave at each of three exits; arrivals per unit."""

    shares: tuple[float, float, float]
    fixed_cost: float
    row_cost: float
    max_rows: int
    rate: float
    bounds: tuple[int, int, int] = (64, 32, 32)

    @property
    def stays(self) -> tuple[float, float]:
        """Probability of going on at each exit but the last."""
        first, second, _ = self.shares
        return 1 - first, 1 - second / (1 - first)


class DecisionProcess:
    """One sweep of the optimality equation over all queue lengths of an instance."""

    def __init__(self, instance: Instance, *, any_size: bool = False) -> None:
        self._instance = instance
        self._any_size = any_size
        self._shape = tuple(bound + 1 for bound in instance.bounds)
        self._held = np.indices(self._shape).sum(axis=0).astype(np.float64)
        sizes = range(1, instance.max_rows + 1)
        self._times = {b: instance.fixed_cost + instance.row_cost * b for b in sizes}
        self._arrivals = {b: self._poisson(time) for b, time in self._times.items()}

    def sweep(self, values: Values) -> tuple[Values, npt.NDArray[np.int64]]:
        """New values and the best action of each state, as stage * (max_rows + 1) + rows."""
        best = np.full(self._shape, np.inf)
        actions = np.zeros(self._shape, dtype=np.int64)
        shortest = self._times[1]
        for rows, time in self._times.items():
            share = shortest / time
            arrived = share * np.tensordot(self._arrivals[rows], values, axes=(1, 0))
            cost = (self._held + self._instance.rate * time / 2) * shortest + (1 - share) * values
            for stage in range(3):
                after, at = self._after(arrived, stage, rows)
                total = cost[at] + after
                better = total < best[at] - 1e-12
                best[at][better] = total[better]
                actions[at][better] = stage * (self._instance.max_rows + 1) + rows
        best[0, 0, 0] = self._from_empty(values)
        return best, actions

    def _from_empty(self, values: Values) -> float:
        """Wait for one arrival, then run it alone."""
        step = self._times[1]
        share = step / (1 / self._instance.rate + step)
        arrived = np.tensordot(self._arrivals[1], values, axes=(1, 0))
        stay = self._instance.stays[0]
        after = stay * arrived[0, 1, 0] + (1 - stay) * arrived[0, 0, 0]
        cost = step + self._instance.rate * step**2 / 2
        return float(share * (cost + after) + (1 - share) * values[0, 0, 0])

    def _after(self, values: Values, stage: int, rows: int) -> tuple[Values, tuple[slice, ...]]:
        """Expected value after `rows` of `stage`, and the states in which that is a choice.

        Without `any_size` a batch is as full as it can be: fewer rows than the most only where
        there are no more.
        """
        bound = self._instance.bounds[stage]
        whole = self._any_size or rows == self._instance.max_rows
        at = [slice(None)] * 3
        at[stage] = slice(rows, bound + 1 if whole else min(rows, bound) + 1)
        left = [slice(None)] * 3
        left[stage] = slice(0, bound + 1 - rows if whole else 1)
        if rows > bound:
            return np.empty(0), tuple(at)
        remaining = values[tuple(left)]
        if stage == 2:
            return remaining, tuple(at)
        stay = self._instance.stays[stage]
        index = np.arange(self._shape[stage + 1])
        after = np.zeros_like(remaining)
        for going in range(rows + 1):
            weight = comb(rows, going) * stay**going * (1 - stay) ** (rows - going)
            reached = np.minimum(index + going, self._instance.bounds[stage + 1])
            after += weight * remaining.take(reached, axis=stage + 1)
        return after, tuple(at)

    def _poisson(self, time: float) -> Values:
        """Probability of going from one queue length to another by the arrivals of a time."""
        size = self._shape[0]
        mean = self._instance.rate * time
        chances = [exp(-mean)]
        for count in range(1, size):
            chances.append(chances[-1] * mean / count)
        matrix = np.zeros((size, size))
        for start in range(size):
            matrix[start, start:] = chances[: size - start]
            matrix[start, -1] += 1 - matrix[start].sum()
        return matrix


def least_mean_latency(
    instance: Instance, *, any_size: bool = False, tolerance: float = 1e-4, sweeps: int = 20_000
) -> tuple[float, npt.NDArray[np.int64]]:
    """The optimum, within the share `tolerance`, and its actions.

    Raises ArithmeticError if it does not converge.
    """
    process = DecisionProcess(instance, any_size=any_size)
    values = np.zeros(tuple(bound + 1 for bound in instance.bounds))
    shortest = instance.fixed_cost + instance.row_cost
    for _ in range(sweeps):
        updated, actions = process.sweep(values)
        change = (updated - values) / shortest
        least, most = float(change.min()), float(change.max())
        values = updated - updated[0, 0, 0]
        if most - least < tolerance * least:
            return (least + most) / 2 / instance.rate, actions
    raise ArithmeticError(f"no convergence in {sweeps} sweeps")
