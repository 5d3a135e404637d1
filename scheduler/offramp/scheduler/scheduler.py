"""The scheduler: who runs when. Sans-IO: time and readings come in, batches and departures go out.

A request waits in the *queue*, is *admitted* to a slot when its first stage is cut into a batch,
and from then on alternates between a step and the line of its next stage until it leaves.
`next_batch` decides at the last moment, when the device is free: it picks a stage, takes the
requests that go first, and lets nobody run whose deadline the step would overrun. `complete`
absorbs the readings: whoever is confident leaves and frees the slot, which the next batch of
stage 0 refills. There are no timers: while anything is ready, something runs.

What holds of every history:

- Every request leaves through exactly one `Departure`, unless its owner cancels it: it is in one
  line, one running batch or one group to retry, and the way out of these for good is `_release`.
- No batch exceeds rows or tokens (one longer request runs alone), no two hold the same slot.
- A request leaves at the first exit from `min_exit` on whose reading reaches its threshold, at
  `max_exit` or the last exit, or with its best reading before its deadline; nothing here looks at
  whom it is batched with. Only relief under overload lowers a threshold, and it marks the answer.
  Where a reading is undefined it leaves with an error: no such number is ever an answer.
- A step that fails is run again in halves until whoever caused it fails alone. Nobody starves:
  `Lines` has the bound and its proof.

While a batch runs on every worker one more may be asked for, so that the device never waits for the
host. It is cut only if it is full: a half-empty one is better cut when another is back. While
several workers are free they share what waits, unless a step of half takes nearly as long.
"""

from collections.abc import Sequence
from itertools import repeat
from math import ceil, inf

from offramp.scheduler.admission import Admission
from offramp.scheduler.backend import TOKENS_OF, Batch
from offramp.scheduler.check import ExitCheck
from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.deadlines import Deadlines
from offramp.scheduler.errors import (
    DeadlineUnreachableError,
    DrainingError,
    QueueFullError,
    SchedulerError,
    StepFailedError,
)
from offramp.scheduler.leaving import late, leaves
from offramp.scheduler.lines import RELEARN, Lines
from offramp.scheduler.policy import Policy
from offramp.scheduler.probe import Probe
from offramp.scheduler.reading import Reading, scores_of
from offramp.scheduler.relief import Relief
from offramp.scheduler.request import (
    Answer,
    Departure,
    Priority,
    Request,
    State,
)
from offramp.scheduler.retries import Retries
from offramp.scheduler.slots import SlotTable
from offramp.scheduler.turn import Turn
from offramp.scheduler.workers import Workers

SPARED = 0.75
"""Of the queue's room, what those may take who wait for room in place of being refused."""


class Scheduler:
    """Holds every request between `submit` and its departure; decides, and does nothing else."""

    def __init__(
        self,
        config: SchedulerConfig,
        policy: Policy,
        cost: CostModel,
        relief: Relief | None = None,
    ) -> None:
        self.config = config
        self.cost = cost
        self.relief = relief or Relief()
        self.slots = SlotTable(config.slots, config.first_slot)
        self._lines = Lines(config, policy, cost)
        self.reach = self._lines.reach
        self.admission = Admission(cost, self.reach, self._lines.of, config)
        self._check = ExitCheck(config, cost, self.reach, self.admission)
        self._queue = self._lines.of[0]
        self._deadlines = Deadlines()
        self._probe = Probe()
        self._retries = Retries()
        self._workers = Workers(config.workers)
        self._turn = Turn(config, cost, self._lines, self.slots, self._workers, self._deadlines)
        self._draining = False

    @property
    def queued(self) -> int:
        """Requests waiting for a slot."""
        return self._queue.waiting

    @property
    def queued_tokens(self) -> int:
        """Tokens of the requests waiting for a slot."""
        return self._queue.tokens

    @property
    def due(self) -> float:
        """When the first of the steps that run was predicted to end; infinite if none runs."""
        return self._workers.due

    @property
    def idle(self) -> bool:
        """Whether no request is held at all."""
        return (
            not self._workers.running
            and not self._retries
            and not any(line.waiting for line in self._lines.of)
        )

    def has_room(self, coming: int = 0) -> bool:
        """Whether the queue takes another request; `coming` are as good as in it."""
        config, queue = self.config, self._queue
        fits = queue.waiting + coming < config.max_queue_requests
        return fits and queue.tokens < config.max_queue_tokens

    @property
    def spare_places(self) -> int:
        """Places of the queue for those who can wait: the last quarter is for those who can't."""
        config, queue = self.config, self._queue
        if queue.tokens >= SPARED * config.max_queue_tokens and queue.waiting:
            return 0
        places = ceil(SPARED * config.max_queue_requests) - queue.waiting
        return max(places, 0 if queue.waiting else 1)

    def predicted_delay(self) -> float:
        """Seconds of work in the queue and between stages; other threads may ask."""
        return self.admission.work(self._queue.tokens)

    def refusal(self, now: float, coming: int = 0) -> SchedulerError | None:
        """Why nobody is taken just now, if so; `coming` are as good as in the queue."""
        if self._draining:
            return DrainingError()
        if not self.has_room(coming):
            return QueueFullError(self.admission.delay(self._queue.tokens, now))
        return None

    def submit(self, request: Request, now: float) -> None:
        """Take a request into the queue.

        Raises DrainingError, QueueFullError or DeadlineUnreachableError of one that is refused.
        """
        if (error := self.refusal(now)) is not None:
            raise error
        config, terms = self.config, request.terms
        self.admission.meet(request.tokens)
        bulk = terms.priority is Priority.BULK
        ahead = self._queue.tokens if bulk else self._queue.interactive_tokens
        request.predicted = self.admission.delay(ahead, now)
        if terms.deadline < inf:
            first = request.predicted + self.cost.predict(0, 1, request.tokens)
            predicted, left = first + config.deadline_margin, terms.deadline - now
            if predicted > left and not self._may_try(request, now):
                raise DeadlineUnreachableError(predicted, left)
            self._deadlines.add(request)
        patience = config.interactive_patience + (config.bulk_patience if bulk else 0.0)
        request.rank = min(request.arrived + patience, terms.deadline)
        request.submitted = now
        request.state = State.QUEUED
        self._lines.push((request,))

    def cancel(self, request: Request) -> None:
        """Forget a request; if it is in a step, its slot is free when the step ends."""
        if request.state in (State.RUNNING, State.RETRYING):
            request.state = State.CANCELLED
        elif request.state in (State.QUEUED, State.WAITING):
            self._lines.of[request.stage].remove(request)
            self._release(request)
            self.admission.changed()

    def next_batch(self, now: float) -> tuple[Batch | None, list[Departure]]:
        """The next batch to run, or None if nothing is ready, and who leaves before it."""
        free = self._workers.free
        starts = now if free > 0 else max(now, self.admission.busy_until)
        departures = self._drop_late(now, now)
        while True:
            if self._retries:
                stage, group = self._retries.take()
                taken = [request for request in group if self._still_wanted(request)]
            else:
                chosen, urgent = self._turn.next(starts)
                if chosen is None:
                    self._look_at_delay(now)
                    return None, departures
                stage = chosen
                within = inf
                if urgent is not None:
                    within = urgent.terms.deadline - self.config.deadline_margin - starts
                taken = self._lines.take(stage, self.slots.free, max(1, free), urgent, within)
            predicted = self._predict(stage, taken)
            horizon = starts + predicted + self.config.deadline_margin
            fit = taken
            if self._deadlines.held and (hurried := self._hurried(taken, horizon)):
                departures += [self._depart(one, late(one, now, horizon)) for one in hurried]
                fit = [request for request in taken if request not in hurried]
                predicted = self._predict(stage, fit)
            if fit:
                batch = self._start(stage, fit, now, starts, predicted)
                # The others wait for the next worker, which need not be that of this batch.
                if (free_at := self.admission.busy_until) > now:
                    departures += self._drop_late(now, free_at + self.config.deadline_margin)
                self._look_at_delay(now)
                return batch, departures

    def complete(
        self, batch: Batch, readings: Sequence[Reading], now: float, *, learn: bool = True
    ) -> list[Departure]:
        """Absorb what the exit said: each request leaves or joins the line of its next stage.

        There is a reading of each request if the batch reads. Without `learn` nothing is made of
        how long the step took.
        """
        requests, stage, last = batch.requests, batch.stage, self.config.stages - 1
        seconds = self._finish(batch, now)
        if learn:
            self.cost.observe(stage, len(requests), batch.tokens, seconds)
        departures: list[Departure] = []
        staying: list[Request] = []
        scores = scores_of(readings) if batch.reads else repeat(None, len(requests))
        relief, cancelled, waiting = self.relief, State.CANCELLED, State.WAITING
        for row, (request, score) in enumerate(zip(requests, scores, strict=True)):
            if request.state is cancelled:
                self._release(request)
                continue
            request.compute += seconds
            if score is not None:
                request.readings, request.row, request.read_at = readings, row, stage
                outcome = leaves(request, score, relief, last, now)
                if outcome is not None:
                    departures.append(self._depart(request, outcome))
                    continue
            request.stage = stage + 1
            request.state = waiting
            staying.append(request)
        self._probe.ran(requests, now)
        if staying:
            self._lines.push(staying)
        if batch.reads:
            self.reach.observe(stage, len(departures) + len(staying), len(staying))
        if stage == 0:
            first = requests[0]
            self.admission.learn(first.predicted, now - seconds - first.submitted)
        self.admission.changed()
        return departures

    def fail(self, batch: Batch, cause: BaseException) -> list[Departure]:
        """Absorb a failed step: it is retried in halves; a request that fails alone departs."""
        self._finish(batch, self._workers.finished)
        wanted = [request for request in batch.requests if self._still_wanted(request)]
        if len(wanted) == 1 and len(batch.requests) == 1:
            return [self._depart(wanted[0], StepFailedError(cause))]
        self._retries.halve(batch.stage, wanted)
        return []

    def drain(self) -> None:
        """Refuse new requests from now on; those held are finished."""
        self._draining = True

    def _may_try(self, request: Request, now: float) -> bool:
        """Whether a deadline that seems out of reach is tried, to learn whether it is."""
        ahead = now < request.terms.deadline
        return ahead and self.idle and self._probe.begin(request, now, self._workers.finished)

    def _start(
        self, stage: int, fit: list[Request], now: float, starts: float, predicted: float
    ) -> Batch:
        running, steps, take = State.RUNNING, self._lines.steps, self.slots.take
        for request in fit:
            request.state = running
            if request.slot < 0:
                request.slot, request.admitted = take(), steps
        if steps % RELEARN == 0:
            self.admission.price()
        self._lines.stepped()
        self._workers.begin(fit[0], starts + predicted)
        self.admission.busy_until = self._workers.free_at
        return Batch(stage, tuple(fit), now, predicted, self._check.worth_reading(stage, fit))

    def _hurried(self, requests: Sequence[Request], horizon: float) -> list[Request]:
        """Those whose deadline a step would overrun that ends at the horizon."""
        return [
            request
            for request in requests
            if request.terms.deadline < horizon and not self._probe.tries(request)
        ]

    def _predict(self, stage: int, requests: Sequence[Request]) -> float:
        tokens = sum(map(TOKENS_OF, requests))
        return self.cost.predict(stage, len(requests), tokens) if requests else 0.0

    def _look_at_delay(self, now: float) -> None:
        """Tell relief how long the queue will wait; nobody does while all that is held runs."""
        self.admission.changed()
        if self.relief.active:
            waits = any(line.waiting for line in self._lines.of)
            delay = self.admission.delay(self._queue.tokens, now) if waits else 0.0
            self.relief.observe(delay, now)

    def _finish(self, batch: Batch, now: float) -> float:
        """Seconds that the step ran."""
        seconds = self._workers.finish(batch, now)
        self.admission.busy_until = self._workers.free_at
        return seconds

    def _drop_late(self, now: float, horizon: float) -> list[Departure]:
        """Let those go who wait in a line and whose deadline comes before the horizon."""
        departures: list[Departure] = []
        for request in self._deadlines.waiting_before(horizon):
            self._lines.of[request.stage].remove(request)
            departures.append(self._depart(request, late(request, now, horizon)))
        return departures

    def _still_wanted(self, request: Request) -> bool:
        if request.state is not State.CANCELLED:
            return True
        self._release(request)
        return False

    def _depart(self, request: Request, outcome: Answer | SchedulerError) -> Departure:
        self._release(request)
        return Departure(request, outcome)

    def _release(self, request: Request) -> None:
        if request.slot >= 0:
            self.slots.release(request.slot)
        if request.terms.deadline < inf:
            self._deadlines.forget(request)
        request.state = State.DONE
