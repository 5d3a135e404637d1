"""A rehearsal: texts served by the scheduler's engine in this process, every step written down."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch
import uvloop

from offramp.model.checkpoint import Checkpoint
from offramp.model.tokenizer import Tokens
from offramp.scheduler.backend import Batch
from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.engine import Engine
from offramp.scheduler.observer import NullObserver
from offramp.scheduler.policy import Adaptive, Policy
from offramp.scheduler.recording import Step
from offramp.scheduler.request import Answer, Terms
from offramp.scheduler.scheduler import Scheduler
from offramp.server.backend import TorchBackend
from offramp.server.config import ServerConfig
from offramp.server.hardware import step_threads, workers_of
from offramp.server.warmup import warm_up

UNBOUNDED = 2**40


@dataclass(slots=True)
class Run(NullObserver):
    """What happened: the answers in order of the texts, the steps in order of time, seconds."""

    answers: list[Answer] = field(default_factory=list[Answer])
    steps: list[Step] = field(default_factory=list[Step])
    seconds: float = 0.0

    def stepped(self, batch: Batch, seconds: float) -> None:
        """Write a step down."""
        self.steps.append(
            Step(batch.started, batch.stage, len(batch.requests), batch.tokens, seconds)
        )


class Rehearsal:
    """A warm model on threads of its own, as a server has them, without the wire.

    `workers` is the number of steps that run at the same time, 0 what a server would choose.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        texts: Sequence[Tokens],
        *,
        slots: int = 64,
        max_rows: int = 32,
        max_tokens: int = 512,
        workers: int = 0,
    ) -> None:
        self.checkpoint = checkpoint
        self.texts = texts
        self.stages = checkpoint.config.exits
        self.limits = (slots, max_rows, max_tokens)
        cpu = torch.device("cpu")
        self.backend = TorchBackend(checkpoint, slots, cpu)
        server = ServerConfig("127.0.0.1:0", (Path(checkpoint.name),), workers=workers)
        self.workers = workers_of(cpu, server)
        self.device = step_threads(cpu, server)
        self._cost = CostModel(self.stages)
        warm_up(self.backend, self.device, checkpoint.config, self.config(), self._cost)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.device.shutdown()

    def config(self, slots: int = 0, max_rows: int = 0) -> SchedulerConfig:
        """The limits, or fewer slots and rows, with a queue that takes everything."""
        most_slots, most_rows, max_tokens = self.limits
        return SchedulerConfig(
            self.stages,
            slots=slots or most_slots,
            max_queue_requests=UNBOUNDED,
            max_queue_tokens=UNBOUNDED,
            max_batch_rows=max_rows or most_rows,
            max_batch_tokens=max_tokens,
            workers=self.workers,
        )

    def serve(
        self,
        times: Sequence[float],
        threshold: float,
        *,
        policy: Policy | None = None,
        config: SchedulerConfig | None = None,
        steps_in_flight: int = 1,
    ) -> Run:
        """Submit text i, in turn, `times[i]` seconds after the begin; returns when all left."""
        scheduler = Scheduler(config or self.config(), policy or Adaptive(), self._cost)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._serve(scheduler, times, threshold, steps_in_flight))

    async def _serve(
        self, scheduler: Scheduler, times: Sequence[float], threshold: float, steps_in_flight: int
    ) -> Run:
        run = Run()
        engine = Engine(scheduler, self.backend, self.device, run, steps_in_flight=steps_in_flight)
        task = asyncio.create_task(engine.run())
        terms = Terms(threshold, 0, self.stages - 1)
        began = time.monotonic()
        futures: list[asyncio.Future[Answer]] = []
        for at, due in enumerate(times):
            if (wait := began + due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            text = self.texts[at % len(self.texts)]
            futures.append(engine.submit(text, len(text), terms, began + due))
        run.answers += await asyncio.gather(*futures)
        run.seconds = time.monotonic() - began
        engine.stop()
        await task
        return run
