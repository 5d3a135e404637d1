"""The scheduler: who runs when. Sans-IO: time and readings come in, batches and departures go out.

A request waits in the *queue*, is *admitted* to a slot when its first stage is cut into a batch,
and from then on alternates between a step and the line of its next stage until it leaves.
`next_batch` decides at the last moment, when the device is free: it picks a stage, takes the
requests that go first, and lets nobody run whose deadline the step would overrun. `complete`
absorbs the readings: whoever is confident leaves and frees the slot, which the next batch of
stage 0 refills. There are no timers: while anything is ready, something runs.

Every request submitted leaves through exactly one `Departure`, unless its owner cancels it.
"""

from collections.abc import Sequence
from math import inf

from offramp.scheduler.backend import Batch
from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.errors import (
    DeadlineExceededError,
    DeadlineUnreachableError,
    DrainingError,
    QueueFullError,
    SchedulerError,
    StepFailedError,
)
from offramp.scheduler.heap import Entry, RequestHeap
from offramp.scheduler.line import Line
from offramp.scheduler.policy import Policy, Ready
from offramp.scheduler.reach import Reach
from offramp.scheduler.request import (
    Answer,
    DeadlineAction,
    Departure,
    ExitReason,
    Priority,
    Reading,
    Request,
    State,
)
from offramp.scheduler.slots import SlotTable


class Scheduler:
    """Holds every request between `submit` and its departure; decides, and does nothing else."""

    def __init__(self, config: SchedulerConfig, policy: Policy, cost: CostModel) -> None:
        self.config = config
        self.cost = cost
        self.slots = SlotTable(config.slots, config.first_slot)
        self.reach = Reach(config.stages)
        self._policy = policy
        self._lines = [Line() for _ in range(config.stages)]
        self._deadlines = RequestHeap()
        self._interactive_tokens = 0
        self._running = 0
        self._draining = False

    @property
    def queued(self) -> int:
        """Requests waiting for a slot."""
        return len(self._lines[0])

    @property
    def queued_tokens(self) -> int:
        """Tokens of the requests waiting for a slot."""
        return self._lines[0].tokens

    @property
    def idle(self) -> bool:
        """Whether no request is held at all."""
        return not self._running and not any(self._lines)

    @property
    def has_room(self) -> bool:
        """Whether the queue takes another request."""
        config = self.config
        return self.queued < config.max_queue_requests and (
            self.queued_tokens < config.max_queue_tokens
        )

    def submit(self, request: Request, now: float) -> None:
        """Take a request into the queue.

        Raises DrainingError, QueueFullError or DeadlineUnreachableError of one that is refused.
        """
        if self._draining:
            raise DrainingError
        if not self.has_room:
            raise QueueFullError(self.predicted_delay(self.queued_tokens))
        deadline = request.terms.deadline
        if deadline < inf:
            interactive = request.terms.priority is Priority.INTERACTIVE
            ahead = self._interactive_tokens if interactive else self.queued_tokens
            predicted = self.predicted_delay(ahead) + self.cost.predict(0, request.tokens)
            remaining = deadline - now
            if predicted + self.config.deadline_margin > remaining:
                raise DeadlineUnreachableError(predicted, remaining)
            self._deadlines.push(request, deadline)
        request.submitted = now
        self._join(request, State.QUEUED)

    def cancel(self, request: Request) -> None:
        """Forget a request; if it is in a step, its slot is free when the step ends."""
        if request.state is State.RUNNING:
            request.state = State.CANCELLED
        elif request.state in (State.QUEUED, State.WAITING):
            self._leave_line(request)
            self._release(request)

    def next_batch(self, now: float) -> tuple[Batch | None, list[Departure]]:
        """The next batch to run, or None if nothing is ready, and who leaves before it."""
        departures = self._expire(now)
        while ready := self._ready():
            stage = self._policy.choose(ready)
            taken = self._take(stage)
            tokens = sum(request.tokens for request in taken)
            horizon = now + self.cost.predict(stage, tokens) + self.config.deadline_margin
            fit = [request for request in taken if request.terms.deadline >= horizon]
            late = [request for request in taken if request.terms.deadline < horizon]
            departures += [self._late(request, now, horizon) for request in late]
            departures += self._last_chances(now, horizon)
            if fit:
                for request in fit:
                    request.state = State.RUNNING
                    if request.slot < 0:
                        request.slot = self.slots.take()
                self._running += len(fit)
                tokens = sum(request.tokens for request in fit)
                predicted = self.cost.predict(stage, tokens)
                return Batch(stage, tuple(fit), now, predicted), departures
        return None, departures

    def complete(self, batch: Batch, readings: Sequence[Reading], now: float) -> list[Departure]:
        """Absorb what the exit said: each request leaves or joins the line of its next stage."""
        if len(readings) != len(batch.requests):
            return self.fail(batch, ValueError(f"{len(readings)} readings, not one a request"))
        seconds = now - batch.started
        self.cost.observe(batch.stage, batch.tokens, seconds)
        self._running -= len(batch.requests)
        departures: list[Departure] = []
        stayed = 0
        for request, reading in zip(batch.requests, readings, strict=True):
            if request.state is State.CANCELLED:
                self._release(request)
                continue
            request.compute += seconds
            request.reading = reading
            reason = self._exit_reason(request)
            if reason is not None:
                departures.append(self._depart(request, request.answer(reason, now)))
            else:
                stayed += 1
                request.stage += 1
                self._join(request, State.WAITING)
        self.reach.observe(batch.stage, len(departures) + stayed, stayed)
        return departures

    def fail(self, batch: Batch, cause: BaseException) -> list[Departure]:
        """Give up the requests of a step that failed; nobody else is touched."""
        self._running -= len(batch.requests)
        departures: list[Departure] = []
        for request in batch.requests:
            if request.state is State.CANCELLED:
                self._release(request)
            else:
                error = StepFailedError()
                error.__cause__ = cause
                departures.append(self._depart(request, error))
        return departures

    def drain(self) -> None:
        """Refuse new requests from now on; those held are finished."""
        self._draining = True

    def predicted_delay(self, queued_tokens: int | None = None) -> float:
        """Seconds until this much of the queue (default: all) and all admitted are worked off."""
        flow = 0.0
        delay = 0.0
        for stage, line in enumerate(self._lines):
            flow *= self.reach.share(stage) / self.reach.share(stage - 1) if stage else 0.0
            flow += queued_tokens if stage == 0 and queued_tokens is not None else line.tokens
            steps = flow / self.config.max_batch_tokens
            delay += steps * self.cost.predict(stage, self.config.max_batch_tokens)
        return delay

    def _exit_reason(self, request: Request) -> ExitReason | None:
        assert request.reading is not None
        terms = request.terms
        if request.stage >= terms.min_exit and request.reading.confidence >= terms.threshold:
            return ExitReason.CONFIDENT
        if request.stage == self.config.stages - 1:
            return ExitReason.FINAL
        if request.stage >= terms.max_exit:
            return ExitReason.LIMIT
        return None

    def _ready(self) -> list[Ready]:
        most = self.config.max_batch_rows
        rows = [min(len(line), most) for line in self._lines]
        rows[0] = min(rows[0], self.slots.free)
        return [
            Ready(stage, count, self.reach.share(stage))
            for stage, count in enumerate(rows)
            if count
        ]

    def _take(self, stage: int) -> list[Request]:
        rows = self.config.max_batch_rows
        if stage == 0:
            rows = min(rows, self.slots.free)
        taken = self._lines[stage].take(rows, self.config.max_batch_tokens)
        for request in taken:
            self._left_line(request)
        return taken

    def _expire(self, now: float) -> list[Departure]:
        """Drop whoever waits past its deadline."""
        expired = [request for request in self._due(now) if request.state is not State.RUNNING]
        for request in expired:
            self._leave_line(request)
        return [self._late(request, now, now) for request in expired]

    def _last_chances(self, now: float, horizon: float) -> list[Departure]:
        """Answer whoever waits with a reading and could not be answered in time after this step."""
        leaving = [
            request
            for request in self._due(horizon)
            if request.state is State.WAITING
            and request.terms.deadline_action is DeadlineAction.BEST_ANSWER
        ]
        for request in leaving:
            self._leave_line(request)
        return [self._late(request, now, horizon) for request in leaving]

    def _due(self, time: float) -> list[Request]:
        """Requests whose deadline is before `time`, soonest first."""
        entries: list[Entry] = []
        while entry := self._deadlines.pop(below=time):
            entries.append(entry)
        for entry in entries:
            self._deadlines.restore(entry)
        return [request for _, _, request in entries]

    def _late(self, request: Request, now: float, horizon: float) -> Departure:
        """The departure of a request that can't be run before its deadline."""
        terms = request.terms
        if request.reading is None and now < terms.deadline:
            error = DeadlineUnreachableError(horizon - now, terms.deadline - now)
            return self._depart(request, error)
        if request.reading is None or terms.deadline_action is DeadlineAction.FAIL:
            return self._depart(request, DeadlineExceededError())
        return self._depart(request, request.answer(ExitReason.DEADLINE, now))

    def _join(self, request: Request, state: State) -> None:
        bulk = request.terms.priority is Priority.BULK
        request.state = state
        rank = request.arrived + (self.config.bulk_patience if bulk else 0.0)
        self._lines[request.stage].push(request, rank)
        if state is State.QUEUED and not bulk:
            self._interactive_tokens += request.tokens

    def _leave_line(self, request: Request) -> None:
        self._lines[request.stage].remove(request)
        self._left_line(request)

    def _left_line(self, request: Request) -> None:
        interactive = request.terms.priority is Priority.INTERACTIVE
        if request.state is State.QUEUED and interactive:
            self._interactive_tokens -= request.tokens

    def _depart(self, request: Request, outcome: Answer | SchedulerError) -> Departure:
        self._release(request)
        return Departure(request, outcome)

    def _release(self, request: Request) -> None:
        if request.slot >= 0:
            self.slots.release(request.slot)
        if request.terms.deadline < inf:
            self._deadlines.remove(request)
        request.state = State.DONE
