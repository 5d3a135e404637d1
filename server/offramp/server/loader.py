"""From a checkpoint's directory to a served model: loaded, warm, watched, its engine ready."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from offramp.model.checkpoint import Checkpoint, load_checkpoint
from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.engine import Engine
from offramp.scheduler.policy import Adaptive
from offramp.scheduler.scheduler import Scheduler
from offramp.server.config import ServerConfig
from offramp.server.hardware import (
    MakeBackend,
    share_loop_steps,
    step_threads,
    suitable_backend,
    usable_device,
    workers_of,
)
from offramp.server.overload import relief_of
from offramp.server.served import ServedModel
from offramp.server.telemetry.agreement import Agreement
from offramp.server.telemetry.logs import Event, log_event
from offramp.server.telemetry.setup import Telemetry
from offramp.server.telemetry.shadow import SLOTS as SHADOW_SLOTS
from offramp.server.telemetry.shadow import Shadow
from offramp.server.telemetry.watch import watch_model
from offramp.server.warmup import warm_up

TOKENIZER_THREADS = 2

QUEUE_TOKENS = 128
"""Tokens that may wait, for each request that may: longer ones fill the queue sooner."""

LONE_TOKENS = 128
"""Tokens of a lone request's step on the event loop at most; longer ones take too long for it."""


class Loader:
    """Loads checkpoints for one device, and owns the threads that their models share.

    Raises ValueError if the device is not usable.
    """

    def __init__(
        self, config: ServerConfig, telemetry: Telemetry, make_backend: MakeBackend | None
    ) -> None:
        self._config = config
        self._telemetry = telemetry
        self.device: torch.device = usable_device(config.device)
        self._make_backend = make_backend or suitable_backend(config)
        self._steps = step_threads(self.device, config)
        self._loop_shares = share_loop_steps(self.device, config)
        self._loop_thread = threading.get_ident()
        self._tokenizers = ThreadPoolExecutor(TOKENIZER_THREADS, "offramp-tokenizer")

    def load(self, directory: Path, name: str = "") -> ServedModel:
        """Load and warm a model to be served under its directory's name, or another if given.

        Raises ModelError, OSError, ValueError or RuntimeError if it is unusable.
        """
        started = time.monotonic()
        limits = self._config.limits
        checkpoint = load_checkpoint(directory, self.device)
        checkpoint = replace(checkpoint, name=name or checkpoint.name)
        shape, calibration = checkpoint.config, checkpoint.calibration
        settings = SchedulerConfig(
            stages=shape.exits,
            slots=limits.slots,
            max_batch_rows=limits.max_batch_rows,
            max_batch_tokens=limits.max_batch_tokens,
            workers=workers_of(self.device, self._config),
            max_queue_requests=limits.max_queue_requests,
            max_queue_tokens=QUEUE_TOKENS * limits.max_queue_requests,
            exact_exits=not limits.skip_costly_exits,
        )
        cost = CostModel(shape.exits)
        shadow = self._shadow(checkpoint)
        slots = limits.slots + (SHADOW_SLOTS if shadow else 0)
        backend = self._make_backend(checkpoint, slots, self.device)
        warm_up(backend, self._steps, shape, settings, cost)
        if self._loop_shares and threading.get_ident() == self._loop_thread:
            # Kernels are compiled for a number of threads. A swap, elsewhere, finds most of them.
            for piece in backend.warm(min(LONE_TOKENS, shape.max_tokens)):
                piece()
        relief = relief_of(calibration, limits.overload_accuracy_drop, limits.overload_delay)
        scheduler = Scheduler(settings, Adaptive(), cost, relief)
        watch = watch_model(self._telemetry, checkpoint, scheduler, lambda: backend.padding, shadow)
        lane, ahead = shadow.lane if shadow else None, limits.steps_in_flight
        engine = Engine(
            scheduler,
            backend,
            self._steps,
            watch,
            lane,
            steps_in_flight=ahead,
            at_once=limits.at_once if self.device.type == "cpu" else 0.0,
            alone_at_once=limits.alone_at_once if self._loop_shares else 0.0,
        )
        seconds = round(time.monotonic() - started, 3)
        log_event(
            Event.LOAD,
            "loaded a model",
            model=checkpoint.name,
            digest=checkpoint.digest,
            seconds=seconds,
        )
        return ServedModel(checkpoint, engine, self._tokenizers, watch)

    def close(self, *, wait: bool) -> None:
        """End the threads; nothing runs any more, or it is not waited for."""
        for threads in (self._steps, self._tokenizers):
            threads.shutdown(wait=wait, cancel_futures=not wait)

    def _shadow(self, checkpoint: Checkpoint) -> Shadow | None:
        config = self._config
        if not config.shadow_share:
            return None
        agreement = Agreement(checkpoint.calibration.table, config.shadow_window)
        if not agreement.promises_any:
            raise ValueError(
                f"the shadow compares with what a checkpoint's trade-off table promises, and that"
                f" of {checkpoint.name} promises nothing: run `offramp calibrate`, or serve without"
                " --shadow-share"
            )
        return Shadow(
            checkpoint,
            agreement,
            config.shadow_share,
            random.Random(),
            first_slot=config.limits.slots,
            max_batch_rows=config.limits.max_batch_rows,
            max_batch_tokens=config.limits.max_batch_tokens,
            guarding=config.guard,
        )
