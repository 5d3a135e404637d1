"""One simulated run of a rule, and the figures of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from offramp.scheduler.backend import Batch
from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.request import Answer, ExitReason, Request
from offramp.scheduler.rules import Rule
from offramp.scheduler.scheduler import Scheduler
from offramp.scheduler.simulation import Trace, simulate
from offramp.scheduler.workload import Workload, read

Cost = Callable[[int, int, int], float]
"""Seconds of a step from its stage, rows and tokens."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a step costs, how many rows and tokens it may hold, how many run at the same time.

    Where steps were recorded `draw`, given a seed, tells what a batch takes, and `cost` their mean.
    """

    cost: Cost
    stages: int
    max_rows: int
    max_tokens: int
    slots: int = 0
    workers: int = 1
    draw: Callable[[int], Callable[[Batch], float]] | None = None

    def capacity(self, shares: Sequence[float], tokens: float = 1.0) -> float:
        """Requests a second with every stage run in steps of the size that is cheapest a row."""
        seconds = 0.0
        most = max(1, min(self.max_rows, int(self.max_tokens / tokens)))
        for stage in range(self.stages):
            sizes = (self.cost(stage, rows, round(rows * tokens)) / rows for rows in _sizes(most))
            seconds += sum(shares[stage:]) * min(sizes)
        return self.workers / seconds

    def __post_init__(self) -> None:
        for name in ("stages", "max_rows", "max_tokens", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.slots < 0:
            raise ValueError(f"slots must be at least 1, or 0 for no bound, not {self.slots}")


@dataclass(frozen=True, slots=True)
class Figures:
    """Latencies in seconds over all answered, throughput in answers a second.

    `fill` is the mean of rows over the most rows of a step. `late` are the answers before a
    confident reading, because of a deadline.
    """

    p50: float
    mean: float
    p99: float
    max: float
    fill: float
    throughput: float
    answered: int
    refused: int
    failed: int
    late: int
    steps: int


def _sizes(most: int) -> list[int]:
    """Powers of two up to `most`, and `most`."""
    return sorted({min(2**power, most) for power in range(most.bit_length() + 1)})


def line_cost(fixed_cost: float, row_cost: float) -> Cost:
    """Steps of `fixed_cost` + rows * `row_cost` seconds at every stage."""
    return lambda _stage, rows, _tokens: fixed_cost + row_cost * rows


def run(rule: Rule, machine: Machine, workload: Workload) -> Figures:
    """Simulate a workload on a machine under a rule."""
    trace = run_requests(rule, machine, workload.generate(), workload.seed)
    return figures(trace, _rows(rule, machine))


def run_requests(rule: Rule, machine: Machine, requests: Sequence[Request], seed: int) -> Trace:
    """Simulate these very requests; `seed` draws what recorded steps take."""
    rows = _rows(rule, machine)
    slots = rule.batches_held * rows or machine.slots or len(requests)
    config = SchedulerConfig(
        stages=machine.stages,
        slots=slots,
        max_queue_requests=len(requests),
        max_queue_tokens=sum(request.tokens for request in requests) + 1,
        max_batch_rows=rows,
        max_batch_tokens=machine.max_tokens,
        workers=machine.workers,
    )
    cost = CostModel(machine.stages)
    mean_tokens = sum(request.tokens for request in requests) / len(requests)
    for stage in range(machine.stages):
        for size in _sizes(rows):
            tokens = max(1, round(size * mean_tokens))
            cost.observe(stage, size, tokens, machine.cost(stage, size, tokens))
    scheduler = Scheduler(config, rule.policy, cost)

    def seconds(batch: Batch) -> float:
        return machine.cost(batch.stage, len(batch.requests), batch.tokens)

    return simulate(scheduler, requests, read, machine.draw(seed) if machine.draw else seconds)


def _rows(rule: Rule, machine: Machine) -> int:
    return 1 if rule.one_row else machine.max_rows


def figures(trace: Trace, max_rows: int) -> Figures:
    """The figures of a trace in which a batch held at most `max_rows`."""
    answers = [d.outcome for d in trace.departures if isinstance(d.outcome, Answer)]
    times = sorted(answer.total for answer in answers) or [0.0]
    rows = sum(len(batch.requests) for batch in trace.batches)
    return Figures(
        p50=times[len(times) // 2],
        mean=sum(times) / len(times),
        p99=times[ceil(len(times) * 0.99) - 1],
        max=times[-1],
        fill=rows / max_rows / max(len(trace.batches), 1),
        throughput=len(answers) / trace.finished if trace.finished else 0.0,
        answered=len(answers),
        refused=len(trace.refusals),
        failed=len(trace.departures) - len(answers),
        late=sum(answer.reason is ExitReason.DEADLINE for answer in answers),
        steps=len(trace.batches),
    )
