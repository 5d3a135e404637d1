"""Whose turn it is: the stage that the lines choose, unless a deadline can't wait for it."""

from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.deadlines import Deadlines
from offramp.scheduler.lines import Lines
from offramp.scheduler.request import Request
from offramp.scheduler.slots import SlotTable
from offramp.scheduler.workers import Workers


class Turn:
    """Looks at what waits, and decides nothing that outlasts the step."""

    def __init__(
        self,
        config: SchedulerConfig,
        cost: CostModel,
        lines: Lines,
        slots: SlotTable,
        workers: Workers,
        deadlines: Deadlines,
    ) -> None:
        self._config = config
        self._cost = cost
        self._lines = lines
        self._slots = slots
        self._workers = workers
        self._deadlines = deadlines

    def next(self, now: float) -> tuple[int | None, Request | None]:
        """The lines' stage; or that of a request whose deadline can't wait for it, and this.

        None if nothing is ready. A request that would be too late either way passes nobody, nor
        does anyone pass a line that has waited too long.
        """
        full = self._workers.free <= 0
        stage = self._lines.choose(now, self._slots.free, full=full)
        urgent = self._deadlines.most_urgent
        if stage is None or urgent is None or self._lines.overdue(stage):
            return stage, None
        if urgent.stage == 0 and not self._slots.free:
            return stage, None
        alone = self._cost.predict(urgent.stage, 1, urgent.tokens)
        own = now + alone + self._config.deadline_margin
        after = own + min(self._seconds(stage), max(self._workers.next_free(now) - now, 0.0))
        hurries = own <= urgent.terms.deadline < after
        return (urgent.stage, urgent) if hurries else (stage, None)

    def _seconds(self, stage: int) -> float:
        """What a step of this stage's line is predicted to take."""
        line = self._lines.of[stage]
        rows = min(line.waiting, self._config.max_batch_rows)
        tokens = min(line.tokens, self._config.max_batch_tokens)
        return self._cost.predict(stage, rows, tokens)
