"""The shadow: a random share of the answered requests run on to full depth when nothing waits.

`Shadow` observes the requests and draws; what it draws is submitted once more to the idle lane,
from which it leaves at full depth only; `FullDepth` observes that lane and compares. A request
that went to full depth by itself counts as agreeing, so the draw is one of all requests.
"""

import logging
import random
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from functools import partial

from offramp.model.checkpoint import Checkpoint
from offramp.scheduler.backend import Batch
from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.flights import Lane
from offramp.scheduler.observer import NullObserver
from offramp.scheduler.policy import Adaptive
from offramp.scheduler.reading import Reading
from offramp.scheduler.request import Answer, Departure, ExitReason, Priority, Request, Terms
from offramp.scheduler.scheduler import Scheduler
from offramp.server.telemetry.agreement import Agreement, Interval, wilson
from offramp.server.telemetry.logs import Event, log_event
from offramp.server.telemetry.notes import notes_of
from offramp.server.telemetry.registry import Counter, Registry

SLOTS = 4
"""Of the idle lane, and rows of its batches: few, so that nobody waits long for one to end."""
WAITING = 64


@dataclass(slots=True)
class Run:
    """A request on its way to full depth: what it was answered, and its readings so far."""

    asked: float
    answer: Answer
    readings: list[Reading] = field(default_factory=list[Reading])


class Shadow(NullObserver):
    """Draws, compares, and says so when answers agree less often than promised.

    `share` of the requests are drawn, while the lane has room. With `guarding`, requests that
    leave the threshold to the server get at least the guard's.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        agreement: Agreement,
        share: float,
        draw: random.Random,
        *,
        first_slot: int,
        max_batch_rows: int,
        max_batch_tokens: int,
        guarding: bool,
    ) -> None:
        self._model = checkpoint.name
        self._last = checkpoint.config.exits - 1
        self._default = checkpoint.calibration.default_threshold
        self.agreement = agreement
        self._share = share
        self._draw = draw
        self._guarding = guarding
        stages, window = checkpoint.config.exits, agreement.window
        config = SchedulerConfig(
            stages=stages,
            slots=SLOTS,
            first_slot=first_slot,
            max_queue_requests=WAITING,
            max_batch_rows=min(SLOTS, max_batch_rows),
            max_batch_tokens=max_batch_tokens,
        )
        scheduler = Scheduler(config, Adaptive(), CostModel(stages))
        self.lane = Lane(scheduler, FullDepth(self))
        self._by_exit = [deque[bool](maxlen=window) for _ in range(stages - 1)]
        self._intervals: dict[int | str, Interval] = {}
        self._comparisons: Counter | None = None
        self._told_drift, self._told_guard = False, 0.0

    @property
    def guard(self) -> float:
        """The least threshold of requests that leave it to the server; 0 without drift."""
        return self.agreement.guard if self._guarding else 0.0

    def attach(self, registry: Registry) -> None:
        """Let a registry count comparisons and read intervals."""
        agreement, model = self.agreement, self._model
        self._comparisons = registry.counter("offramp.shadow.comparisons")
        for name, end in (("", "share"), (".lower", "lower"), (".upper", "upper")):
            for left_at in (*range(self._last), "all"):
                read = partial(self._read, left_at, end)
                registry.gauge(f"offramp.shadow.agreement{name}", read, model, left_at)
        registry.gauge("offramp.shadow.waiting", lambda: self.lane.scheduler.queued, model)
        registry.gauge("offramp.shadow.promise", lambda: agreement.promise, model)
        registry.gauge("offramp.shadow.drift", lambda: int(agreement.drift), model)
        registry.gauge(
            "offramp.shadow.guard.threshold", lambda: max(self._default, self.guard), model
        )

    def departed(self, departure: Departure) -> None:
        """Draw, perhaps, a request that was answered."""
        request, answer = departure.request, departure.outcome
        notes, terms, lane = notes_of(request.context), request.terms, self.lane.scheduler
        if (
            notes is None
            or not isinstance(answer, Answer)
            or answer.reason not in (ExitReason.CONFIDENT, ExitReason.FINAL)
            or not self.agreement.promises(notes.asked)
            or (terms.min_exit, terms.max_exit) != (0, self._last)
            or not lane.has_room()
            or self._draw.random() >= self._share
        ):
            return
        if answer.reason is ExitReason.FINAL and terms.threshold == notes.asked:
            self.agreement.add_final(notes.asked)
            self._tell()
            return
        full = Terms(1.0, 0, self._last, Priority.BULK)
        run = Run(notes.asked, answer)
        now = time.monotonic()
        lane.submit(Request(request.payload, request.tokens, full, now, _ignore, run), now)

    def compare(self, run: Run) -> None:
        """Absorb a request that has run to full depth."""
        self.agreement.add(run.readings, run.asked)
        left_at = run.answer.exit
        if left_at < self._last:
            agrees = run.answer.reading.label == run.readings[-1].label
            window = self._by_exit[left_at]
            window.append(agrees)
            self._intervals[left_at] = wilson(sum(window), len(window))
            if self._comparisons is not None:
                self._comparisons.add(1, self._model, left_at, agrees)
        self._tell()

    def _read(self, left_at: int | str, end: str) -> float | None:
        """An end of the interval of an exit, or of all requests; None without samples."""
        found = self.agreement.interval if left_at == "all" else self._intervals.get(left_at)
        return None if found is None else float(getattr(found, end))

    def _tell(self) -> None:
        """Write a line where drift begins or ends, and where the guard in force moves."""
        agreement, guard = self.agreement, self.guard
        if agreement.drift is not self._told_drift:
            self._told_drift = agreement.drift
            assert agreement.interval is not None
            fell = "early answers agree with full depth less often than promised"
            back = "early answers agree with full depth as promised again"
            log_event(
                Event.DRIFT,
                fell if agreement.drift else back,
                logging.WARNING if agreement.drift else logging.INFO,
                model=self._model,
                promise=agreement.promise,
                **asdict(agreement.interval),
            )
        if guard != self._told_guard:
            self._told_guard = guard
            threshold = max(self._default, guard)
            log_event(
                Event.GUARD, "the default threshold moved", model=self._model, threshold=threshold
            )


class FullDepth(NullObserver):
    """Observes the idle lane: notes the readings of every exit and has them compared."""

    def __init__(self, shadow: Shadow) -> None:
        self._shadow = shadow

    def stepped(self, batch: Batch, seconds: float) -> None:
        """Note what this exit says."""
        for request in batch.requests:
            assert isinstance(request.context, Run)
            assert request.reading is not None
            request.context.readings.append(request.reading)

    def departed(self, departure: Departure) -> None:
        """Compare; one whose step failed tells nothing."""
        run = departure.request.context
        assert isinstance(run, Run)
        if isinstance(departure.outcome, Answer):
            self._shadow.compare(run)


def _ignore(departure: Departure) -> None:
    del departure
