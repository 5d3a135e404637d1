"""Every history of a scheduler: nobody lost, nobody answered twice, no bound exceeded.

Requests come with poison in some of their stages; a step that holds a poisonous one fails. One step
more is in flight than there are workers, one to three; steps of several workers end in any order.
"""

from collections import deque
from math import inf

import fakes
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from offramp.scheduler.backend import Batch
from offramp.scheduler.errors import DeadlineExceededError, SchedulerError, StepFailedError
from offramp.scheduler.policy import Adaptive
from offramp.scheduler.relief import Relief
from offramp.scheduler.request import (
    Answer,
    DeadlineAction,
    Departure,
    ExitReason,
    Priority,
    Request,
    State,
)
from offramp.scheduler.rules import rules

STAGES, SLOTS, ROWS, TOKENS, QUEUE = 3, 4, 3, 40, 6
SHARE = st.floats(0, 1)
POISON = -1.0
READING = st.one_of(SHARE, SHARE, SHARE, SHARE, st.just(POISON))
POLICIES = [Adaptive(), *(one.policy for one in rules(1.0, 1.0, ROWS, STAGES).values())]
LOWERED = 0.3


class SchedulerMachine(RuleBasedStateMachine):
    """Submits, cancels, steps and fails at random; ends by draining the house."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.running: deque[Batch] = deque()
        self.held: list[Request] = []
        self.gone: set[Request] = set()
        self.steps: dict[Request, list[int]] = {}
        self.unread: dict[Request, set[int]] = {}

    @initialize(
        policy=st.sampled_from(POLICIES),
        relief=st.booleans(),
        exact_exits=st.booleans(),
        workers=st.integers(1, 3),
    )
    def open(self, policy: Adaptive, relief: bool, exact_exits: bool, workers: int) -> None:  # noqa: FBT001
        self.workers = workers
        self.lowered = LOWERED if relief else inf
        self.core = fakes.scheduler(
            STAGES,
            policy=policy,
            relief=Relief([LOWERED] if relief else (), delay=0.2),
            exact_exits=exact_exits,
            slots=SLOTS,
            max_batch_rows=ROWS,
            max_batch_tokens=TOKENS,
            max_queue_requests=QUEUE,
            workers=workers,
        )
        if not exact_exits:
            for stage in range(STAGES):
                self.core.cost.observe_reading(stage, 1.0)

    @rule(
        confidences=st.tuples(READING, READING, READING),
        tokens=st.integers(1, 60),
        threshold=st.one_of(SHARE, st.just(1.5)),
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
        self.steps[one] = []
        self.unread[one] = set()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.held))
        self.core.cancel(one)
        self.held.remove(one)
        if one.state is State.DONE:
            assert one not in self.gone
            self.gone.add(one)

    @precondition(lambda self: len(self.running) <= self.workers)
    @rule()
    def start(self) -> None:
        ahead = len(self.running) >= self.workers
        batch, departures = self.core.next_batch(self.now)
        self.absorb(departures)
        if batch is None:
            return
        assert len(batch.requests) <= ROWS
        assert batch.tokens <= TOKENS or len(batch.requests) == 1
        slots = [one.slot for other in (batch, *self.running) for one in other.requests]
        assert len(set(slots)) == len(slots)
        retried = any(self.steps[one][-1:] == [batch.stage] for one in batch.requests)
        if ahead and not retried:
            assert self.full(batch)
        for one in batch.requests:
            # The expired and the cancelled never cost another step; stages run in order.
            assert one.state is State.RUNNING
            assert one.terms.deadline >= self.now
            assert one.stage == batch.stage
            assert self.steps[one][-1:] in ([], [batch.stage], [batch.stage - 1])
            self.steps[one].append(batch.stage)
            if not batch.reads:
                self.unread[one].add(batch.stage)
                assert batch.stage < one.terms.max_exit
                assert batch.stage < STAGES - 1
        self.running.append(batch)

    def full(self, batch: Batch) -> bool:
        """It has all rows, or somebody of its stage did not fit, or a deadline thinned it out."""
        states = (State.QUEUED, State.WAITING)
        left = any(one.stage == batch.stage and one.state in states for one in self.held)
        timed = any(one.terms.deadline < inf for one in self.steps)
        return len(batch.requests) == ROWS or left or timed

    @precondition(lambda self: self.running)
    @rule(seconds=st.sampled_from([0.1, 1.0]), worker=st.integers(0, 2))
    def finish(self, seconds: float, worker: int) -> None:
        self.running.rotate(-(worker % min(self.workers, len(self.running))))
        batch = self.running.popleft()
        self.now += seconds
        readings = [fakes.read(one, batch.stage) for one in batch.requests]
        if any(reading.confidence == POISON for reading in readings):
            self.absorb(self.core.fail(batch, RuntimeError("poison")))
        else:
            self.absorb(self.core.complete(batch, readings if batch.reads else [], self.now))
        for one in batch.requests:
            if one.state is State.DONE:
                self.gone.add(one)

    def absorb(self, departures: list[Departure]) -> None:
        for departure in departures:
            one = departure.request
            self.held.remove(one)
            assert one.state is State.DONE
            if isinstance(departure.outcome, Answer):
                self.check(one, departure.outcome)
            elif isinstance(departure.outcome, StepFailedError):
                # A poisonous input fails alone, in the very stage that it poisons.
                assert one.payload[one.stage] == POISON  # type: ignore[index]
            elif isinstance(departure.outcome, DeadlineExceededError):
                assert one.terms.deadline < inf

    def check(self, one: Request, answer: Answer) -> None:
        """It left exactly where its own readings and threshold say."""
        terms = one.terms
        said = [fakes.read(one, stage).confidence for stage in range(STAGES)]
        assert answer.reading.confidence == said[answer.exit]
        assert answer.exit not in self.unread[one]
        lowest = min(terms.threshold, answer.threshold)
        for stage in set(range(terms.min_exit, answer.exit)) - self.unread[one]:
            assert said[stage] < terms.threshold
        if answer.reason is ExitReason.CONFIDENT:
            assert answer.exit >= terms.min_exit
            assert said[answer.exit] >= terms.threshold == answer.threshold
        elif answer.reason is ExitReason.OVERLOAD:
            assert answer.exit >= terms.min_exit
            assert terms.threshold > said[answer.exit] >= lowest == self.lowered
        elif answer.reason is ExitReason.LIMIT:
            assert answer.exit == terms.max_exit
        elif answer.reason is ExitReason.FINAL:
            assert answer.exit == STAGES - 1
        else:
            assert answer.reason is ExitReason.DEADLINE
            assert terms.deadline < inf
            assert terms.deadline_action is DeadlineAction.BEST_ANSWER

    @invariant()
    def bounds_hold(self) -> None:
        if not hasattr(self, "core"):
            return
        assert self.core.slots.held <= SLOTS
        assert self.core.queued <= QUEUE
        assert self.core.queued_tokens >= 0
        assert 0 <= self.core.relief.level <= 1
        held = sum(one.slot >= 0 for one in self.held)
        assert held <= self.core.slots.held

    def teardown(self) -> None:
        if not hasattr(self, "core"):
            return
        self.core.drain()
        for _ in range(1000):
            if not self.running and self.core.idle:
                break
            if self.running:
                self.finish(0.1, 0)
            self.start()
        assert not self.held
        assert self.core.slots.held == 0
        assert self.core.queued_tokens == 0


SchedulerMachine.TestCase.settings = settings(
    max_examples=120,
    stateful_step_count=40,
    phases=[Phase.generate],
)
TestSchedulerMachine = SchedulerMachine.TestCase
