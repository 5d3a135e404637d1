"""The lines of all stages together, and what could be run of each."""

from collections.abc import Sequence
from math import inf

from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.line import Line
from offramp.scheduler.policy import Policy, Ready
from offramp.scheduler.reach import Reach
from offramp.scheduler.request import Request

LONGEST_STAY = 28
"""Steps in a slot after which the line that a request is first in runs next, whatever the policy
prefers; more where more stages or batches between them keep everybody longer."""

STAY_TURNS = 3
"""Steps of each stage and batch between stages, when these are more than LONGEST_STAY."""

LONGEST_TURN = 32
"""Steps after which a line that has waited for them runs next, before all others."""

RELEARN = 32
"""Steps between two looks at the best step sizes and at the work of each stage."""

EXPLORED = 16
"""At one look in so many steps may be of any size: what a large one costs may have changed."""

SHARED = 0.75
"""A line is shared among free workers if a share takes less than this part of the whole."""


class Lines:
    """One line a stage; the policy chooses among them, but none waits for ever.

    A line whose first has been in a slot for LONGEST_STAY steps goes before whatever the policy
    prefers, and one that has not run for LONGEST_TURN steps goes before these. Steps that run a
    failed batch again in parts are not counted.

    No starvation. A rank is a deadline or a time of arrival plus a patience, whichever is sooner:
    in a line only those can pass a request that arrived before its rank, M of them say, fewer than
    queue and slots hold. A line that could run does so once in T = LONGEST_TURN + L steps at most
    (L lines can be due at once) and its first goes: a step in which an urgent request took its
    place is no turn, and a line that is due is cut in order. Stage 0 may besides lack a free slot,
    but whoever holds the lowest rank of all is first wherever it comes, so that within L T steps a
    slot is free. Hence every request has left after at most 2 L (M + 1) T steps that succeed,
    or with M / max_batch_rows in place of M where rows and not tokens limit the batch.
    """

    def __init__(self, config: SchedulerConfig, policy: Policy, cost: CostModel) -> None:
        self._config = config
        self._policy = policy
        self._cost = cost
        self._reach = Reach(config.stages)
        self.of = [Line() for _ in range(config.stages)]
        self._step_tokens = [config.max_batch_tokens] * config.stages
        self.steps = 0
        """Steps so far."""
        self._ran = [0] * config.stages

    @property
    def reach(self) -> Reach:
        """What has been learned of how far requests come."""
        return self._reach

    def push(self, requests: Sequence[Request]) -> None:
        """Requests of one stage, one at least, join its line."""
        stage = requests[0].stage
        line = self.of[stage]
        if not line.waiting:
            self._ran[stage] = self.steps
        line.push(requests)

    def choose(self, now: float, free_slots: int, *, full: bool = False) -> int | None:
        """The stage to run; None if there is none (with `full`: none that fills a batch)."""
        waiting = [stage for stage, line in enumerate(self.of) if line.waiting]
        if not waiting or (
            full and not any(self._can_fill(stage, free_slots) for stage in waiting)
        ):
            return None
        if len(waiting) == 1 and not full:
            (lone,) = waiting
            return lone if lone or free_slots else None
        ready = self.ready(now, free_slots)
        due = self._due(ready)
        if due is not None:
            return due.stage if not full or self._fills(due.rows, due.waiting) else None
        if full:
            ready = [stage for stage in ready if self._fills(stage.rows, stage.waiting)]
        if not ready:
            return None
        if len(ready) == 1:
            return ready[0].stage
        return self._policy.choose(ready, self._most_rows())

    def overdue(self, stage: int) -> bool:
        """Whether the line of a stage has waited for its turn too long."""
        return self.steps - self._ran[stage] >= LONGEST_TURN

    def ready(self, now: float, free_slots: int) -> list[Ready]:
        """What could run now, in order of stages."""
        ready: list[Ready] = []
        for stage, line in enumerate(self.of):
            first, waiting = line.first, line.waiting
            if first is None:
                continue
            rows = self._rows(stage, waiting, free_slots)
            if rows < 1:
                continue
            # Before anything was learned all steps are alike.
            seconds = self._cost.predict(stage, rows, rows * line.tokens / waiting) or 1.0
            ready.append(
                Ready(
                    stage=stage,
                    rows=rows,
                    seconds=seconds,
                    reach=self._reach.share(stage),
                    remaining=self._reach.remaining(stage),
                    waiting=waiting,
                    interactive=line.interactive,
                    oldest=now - first.arrived,
                    age_sum=waiting * now - line.arrived_sum,
                )
            )
        return ready

    def take(
        self,
        stage: int,
        free_slots: int,
        free_workers: int = 1,
        urgent: Request | None = None,
        within: float = inf,
    ) -> list[Request]:
        """Cut a batch of a stage, with a request of it that is urgent.

        That has no more company than it can afford in a step that must end `within` seconds.
        Workers that would find nothing else get their share of the line.
        """
        rows = self._config.max_batch_rows
        if stage == 0:
            rows = min(rows, free_slots)
        if free_workers > 1:
            rows = min(rows, self._share(stage, free_workers))
        line, predict = self.of[stage], self._cost.predict
        first = line.first
        if within < inf:
            taken = line.take(
                rows,
                self._step_tokens[stage],
                urgent,
                lambda rows, tokens: predict(stage, rows, tokens) <= within,
            )
        else:
            taken = line.take(rows, self._step_tokens[stage], urgent)
        if first in taken:
            self._ran[stage] = self.steps
        return taken

    def stepped(self) -> None:
        """Count a step, and now and then look again at what was learned of the cost."""
        if self.steps % RELEARN == 0:
            most = self._config.max_batch_tokens
            explored = self.steps // RELEARN % EXPLORED == 0
            for stage in range(len(self.of)):
                best = most if explored else self._cost.best_tokens(stage, most)
                self._step_tokens[stage] = best
            rows = self._most_rows()
            tokens = min(most, max(rows, round(rows * self._mean_tokens())))
            work = [self._cost.predict(stage, rows, tokens) for stage in range(len(self.of))]
            if all(work):
                self._reach.weigh([seconds / max(work) for seconds in work])
        self.steps += 1

    def _due(self, ready: Sequence[Ready]) -> Ready | None:
        """The line that has waited too long, or else that whose first has stayed too long."""
        if not ready:
            return None
        turn = min(ready, key=lambda stage: self._ran[stage.stage])
        if self.overdue(turn.stage):
            return turn
        firsts = [(self.of[stage.stage].first, stage) for stage in ready if stage.stage]
        stays = [(first.admitted, stage) for first, stage in firsts if first is not None]
        if not stays:
            return None
        between = sum(stage.waiting for _, stage in stays)
        batches = -(-between // self._most_rows())
        longest = max(LONGEST_STAY, STAY_TURNS * len(self.of) * batches)
        admitted, stay = min(stays, key=lambda found: found[0])
        return stay if self.steps - admitted >= longest else None

    def _rows(self, stage: int, waiting: int, free_slots: int) -> int:
        """Requests of a stage that fit one batch, if they are as long as its line's mean."""
        rows = min(waiting, self._config.max_batch_rows)
        if stage == 0:
            rows = min(rows, free_slots)
        if rows * self.of[stage].tokens > self._step_tokens[stage] * waiting:
            rows = max(1, self._step_tokens[stage] * waiting // self.of[stage].tokens)
        return rows

    def _share(self, stage: int, free_workers: int) -> int:
        """Rows of a line for one of several free workers: all, unless shares are much quicker."""
        line = self.of[stage]
        if line.waiting == 1:
            return 1
        others = sum(1 for other in self.of if other.waiting and other is not line)
        workers = max(1, free_workers - others)
        share = -(-line.waiting // workers)
        mean = line.tokens / line.waiting
        whole = self._cost.predict(stage, line.waiting, line.tokens)
        part = self._cost.predict(stage, share, share * mean)
        return share if part < SHARED * whole else line.waiting

    def _can_fill(self, stage: int, free_slots: int) -> bool:
        """Whether those who wait for a stage fill a batch."""
        waiting = self.of[stage].waiting
        rows = self._rows(stage, waiting, free_slots)
        return rows > 0 and self._fills(rows, waiting)

    def _fills(self, rows: int, waiting: int) -> bool:
        """Whether so many rows, of so many that wait, are a full batch."""
        return rows >= self._config.max_batch_rows or rows < waiting

    def _mean_tokens(self) -> float:
        waiting = sum(line.waiting for line in self.of)
        return sum(line.tokens for line in self.of) / waiting if waiting else 1.0

    def _most_rows(self) -> int:
        """Requests of the usual length that fit one batch."""
        fit = int(self._config.max_batch_tokens / max(self._mean_tokens(), 1.0))
        return max(1, min(self._config.max_batch_rows, fit))
