"""Every history of a scheduler: nobody lost, nobody answered twice, no bound exceeded."""

from math import inf

import fakes
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from offramp.scheduler.backend import Batch
from offramp.scheduler.errors import SchedulerError
from offramp.scheduler.request import (
    Answer,
    DeadlineAction,
    Departure,
    ExitReason,
    Priority,
    Request,
)

SHARE = st.floats(0, 1)


class SchedulerMachine(RuleBasedStateMachine):
    """Submits, cancels, steps and fails at random; ends by draining the house."""

    def __init__(self) -> None:
        super().__init__()
        self.core = fakes.scheduler(
            slots=4, max_batch_rows=3, max_batch_tokens=40, max_queue_requests=6
        )
        self.now = 0.0
        self.batch: Batch | None = None
        self.held: list[Request] = []

    @rule(
        confidences=st.tuples(SHARE, SHARE, SHARE),
        tokens=st.integers(1, 60),
        threshold=SHARE,
        min_exit=st.integers(0, 2),
        max_exit=st.integers(0, 2),
        patience=st.sampled_from([0.5, 3.0, inf]),
        action=st.sampled_from(DeadlineAction),
        priority=st.sampled_from(Priority),
    )
    def submit(
        self,
        confidences: tuple[float, float, float],
        tokens: int,
        threshold: float,
        min_exit: int,
        max_exit: int,
        patience: float,
        action: DeadlineAction,
        priority: Priority,
    ) -> None:
        one = fakes.request(
            self.now,
            confidences=confidences,
            tokens=tokens,
            threshold=threshold,
            min_exit=min(min_exit, max_exit),
            max_exit=max_exit,
            deadline=self.now + patience,
            action=action,
            priority=priority,
        )
        try:
            self.core.submit(one, self.now)
        except SchedulerError:
            return
        self.held.append(one)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.held))
        self.core.cancel(one)
        self.held.remove(one)

    @precondition(lambda self: self.batch is None)
    @rule()
    def start(self) -> None:
        self.batch, departures = self.core.next_batch(self.now)
        self.absorb(departures)
        if self.batch is not None:
            assert len(self.batch.requests) <= 3
            assert self.batch.tokens <= 40 or len(self.batch.requests) == 1
            assert {one.stage for one in self.batch.requests} == {self.batch.stage}
            assert len({one.slot for one in self.batch.requests}) == len(self.batch.requests)

    @precondition(lambda self: self.batch is not None)
    @rule(seconds=st.sampled_from([0.1, 1.0]), fails=st.sampled_from([False, False, True]))
    def finish(self, seconds: float, fails: bool) -> None:  # noqa: FBT001
        assert self.batch is not None
        self.now += seconds
        if fails:
            self.absorb(self.core.fail(self.batch, RuntimeError("step")))
        else:
            readings = [fakes.read(one, self.batch.stage) for one in self.batch.requests]
            self.absorb(self.core.complete(self.batch, readings, self.now))
        self.batch = None

    def absorb(self, departures: list[Departure]) -> None:
        for departure in departures:
            self.held.remove(departure.request)
            if isinstance(departure.outcome, Answer):
                self.check(departure.request, departure.outcome)

    def check(self, one: Request, answer: Answer) -> None:
        terms = one.terms
        said = [fakes.read(one, stage).confidence for stage in range(3)]
        assert answer.reading.confidence == said[answer.exit]
        passed = range(terms.min_exit, answer.exit)
        assert all(said[stage] < terms.threshold for stage in passed)
        if answer.reason is ExitReason.CONFIDENT:
            assert answer.exit >= terms.min_exit
            assert said[answer.exit] >= terms.threshold
        elif answer.reason is ExitReason.LIMIT:
            assert answer.exit == terms.max_exit
        elif answer.reason is ExitReason.FINAL:
            assert answer.exit == 2

    @invariant()
    def bounds_hold(self) -> None:
        assert self.core.slots.held <= 4
        assert self.core.queued <= 6
        assert self.core.queued_tokens >= 0

    def teardown(self) -> None:
        self.core.drain()
        while self.batch is not None or not self.core.idle:
            if self.batch is not None:
                self.finish(0.1, fails=False)
            self.start()
        assert not self.held
        assert self.core.slots.held == 0
        assert self.core.queued_tokens == 0


SchedulerMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True
)
TestSchedulerMachine = SchedulerMachine.TestCase
