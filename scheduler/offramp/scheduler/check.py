"""Whether reading an exit is worth its cost for a step."""

from collections.abc import Sequence
from math import inf

from offramp.scheduler.admission import Admission
from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.reach import Reach
from offramp.scheduler.request import DeadlineAction, Request

LOOK = 16
"""Of so many readings not worth their cost, one is made all the same, to notice a change."""


class ExitCheck:
    """Decides for each step; a threshold is never touched, an unread exit is just not there.

    An exit is read if somebody in the batch must leave there or has no reading yet to leave with
    at a deadline. Otherwise its worth is the work that those who leave there would save, and it is
    skipped if that is nothing or, unless exits are to be exact, less than the reading costs.
    """

    def __init__(
        self, config: SchedulerConfig, cost: CostModel, reach: Reach, admission: Admission
    ) -> None:
        self._last = config.stages - 1
        self._exact = config.exact_exits
        self._cost = cost
        self._reach = reach
        self._admission = admission
        self._skipped = [0] * config.stages

    def worth_reading(self, stage: int, requests: Sequence[Request]) -> bool:
        """Whether to read the exit of this stage for these requests."""
        if stage == self._last:
            return True
        tokens = 0
        for request in requests:
            terms = request.terms
            if terms.max_exit <= stage or _may_need_a_first_reading(request):
                return True
            if terms.min_exit <= stage and terms.threshold <= 1:
                if self._exact:
                    return True
                tokens += request.tokens
        if not tokens:
            return False
        leaving = tokens * (1 - self._reach.stay(stage))
        if leaving * self._admission.rate(stage + 1) >= self._cost.reading_seconds(stage):
            return True
        self._skipped[stage] += 1
        return self._skipped[stage] % LOOK == 0


def _may_need_a_first_reading(request: Request) -> bool:
    terms = request.terms
    best = terms.deadline_action is DeadlineAction.BEST_ANSWER
    return best and terms.deadline < inf and request.read_at < 0
