"""The composition root: builds everything from the configuration, runs it, and drains it."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import grpc.aio
import torch
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from offramp.model.checkpoint import Checkpoint, load_checkpoint
from offramp.model.rules import RuleKind
from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.engine import Engine
from offramp.scheduler.policy import Adaptive
from offramp.scheduler.relief import Relief
from offramp.scheduler.scheduler import Scheduler
from offramp.server.auth import TokenInterceptor
from offramp.server.backend import TorchBackend
from offramp.server.config import ServerConfig
from offramp.server.device import STEPS_IN_FLIGHT, DeviceBackend
from offramp.server.interceptors import ErrorInterceptor
from offramp.server.served import ModelRegistry, ServedModel
from offramp.server.servicer import ClassifierServicer, ModelServicer
from offramp.server.telemetry.agreement import Agreement
from offramp.server.telemetry.logs import Event, log_event
from offramp.server.telemetry.process_metrics import LoopLag, watch_memory
from offramp.server.telemetry.rpc import CallInterceptor
from offramp.server.telemetry.setup import OFF, Telemetry
from offramp.server.telemetry.shadow import SLOTS as SHADOW_SLOTS
from offramp.server.telemetry.shadow import Shadow
from offramp.server.telemetry.watch import watch_model
from offramp.server.transport import open_port, read_tokens, server_options
from offramp.server.warmup import WarmBackend, warm_up
from offramp.v1 import classifier_service_pb2, model_service_pb2
from offramp.v1.classifier_service_pb2_grpc import add_ClassifierServiceServicer_to_server
from offramp.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SERVICES = (
    classifier_service_pb2.DESCRIPTOR.services_by_name["ClassifierService"].full_name,
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
)
TOKENIZER_THREADS = 2


class MeasuredBackend(WarmBackend, Protocol):
    """A backend that counts the token positions that it computed beyond its requests' tokens."""

    padding: int


MakeBackend = Callable[[Checkpoint, int, torch.device], MeasuredBackend]


class App:
    """A server with its models loaded and warm; `start` opens its port, `stop` drains it.

    `make_backend` builds what runs a checkpoint's stages, of the checkpoint, the number of slots
    and the device. Raises ModelError, OSError or ValueError where something given is unusable.
    """

    def __init__(
        self,
        config: ServerConfig,
        telemetry: Telemetry = OFF,
        make_backend: MakeBackend | None = None,
    ) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._started = time.monotonic()
        self._config = config
        self._telemetry = telemetry
        self._loop_lag = LoopLag(telemetry.registry) if telemetry.registry else None
        self._device_kind = _usable(config.device)
        on_gpu = self._device_kind.type == "cuda"
        self._make_backend = make_backend or _backend_of(config, on_gpu=on_gpu)
        self._device = ThreadPoolExecutor(
            STEPS_IN_FLIGHT if on_gpu else 1,
            "offramp-device",
            initializer=_use_threads,
            initargs=(config.threads,),
        )
        if telemetry.registry is not None:
            watch_memory(telemetry.registry, torch.device(config.device))
        self._tokenizers = ThreadPoolExecutor(TOKENIZER_THREADS, "offramp-tokenizer")
        self.models = ModelRegistry([self._load(path) for path in config.checkpoints])
        self._draining = asyncio.Event()
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._server = self._build_server()
        self._engines: list[asyncio.Task[None]] = []

    async def start(self) -> str:
        """Open the port and serve; returns the address it listens on.

        Raises OSError if the address is taken or not ours.
        """
        host = self._config.address.rpartition(":")[0]
        port = open_port(self._server, self._config)
        self._engines = [asyncio.create_task(model.engine.run()) for model in self.models]
        await self._server.start()
        if self._loop_lag is not None:
            self._loop_lag.start()
        for service in ("", *SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        address, names = f"{host}:{port}", [model.checkpoint.name for model in self.models]
        log_event(Event.START, "serving", address=address, models=names)
        return address

    async def failed(self) -> None:
        """Return only if an engine died, which none should; the server is of no use then."""
        await asyncio.wait(self._engines, return_when=asyncio.FIRST_COMPLETED)

    async def stop(self) -> None:
        """Drain: tell the health service, wait for balancers, take nothing new, finish the rest.

        Raises whatever killed an engine; there is no waiting then, for nothing would finish.
        """
        config = self._config
        alive = not any(engine.done() for engine in self._engines)
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(config.drain_pause if alive else 0)
        self._draining.set()
        await self._server.stop(config.drain_grace if alive else 0)
        for model in self.models:
            model.engine.stop()
        if self._loop_lag is not None:
            self._loop_lag.stop()
        outcomes = await asyncio.gather(*self._engines, return_exceptions=True)
        self._device.shutdown()
        self._tokenizers.shutdown()
        self._log_stop()
        for error in filter(None, outcomes):
            raise error

    def _log_stop(self) -> None:
        for model in self.models:
            if model.watch is not None:
                model.watch.close()
        log_event(Event.STOP, "stopped", seconds=round(time.monotonic() - self._started, 3))

    def _load(self, path: Path) -> ServedModel:
        started = time.monotonic()
        limits = self._config.limits
        checkpoint = load_checkpoint(path, self._device_kind)
        shape = checkpoint.config
        settings = SchedulerConfig(
            stages=shape.exits,
            slots=limits.slots,
            max_batch_rows=limits.max_batch_rows,
            max_batch_tokens=limits.max_batch_tokens,
            max_queue_requests=limits.max_queue_requests,
        )
        cost = CostModel(shape.exits)
        shadow = self._shadow(checkpoint)
        slots = limits.slots + (SHADOW_SLOTS if shadow else 0)
        backend = self._make_backend(checkpoint, slots, self._device_kind)
        self._device.submit(warm_up, backend, shape, settings, cost).result()
        table = [(row.threshold, row.accuracy_drop) for row in checkpoint.calibration.table]
        relief = Relief(table, limits.overload_accuracy_drop)
        scheduler = Scheduler(settings, Adaptive(), cost, relief)
        watch = watch_model(self._telemetry, checkpoint, scheduler, lambda: backend.padding, shadow)
        lane, ahead = shadow.lane if shadow else None, limits.steps_in_flight
        engine = Engine(scheduler, backend, self._device, watch, lane, steps_in_flight=ahead)
        seconds = round(time.monotonic() - started, 3)
        log_event(Event.LOAD, "loaded a model", model=checkpoint.name, seconds=seconds)
        return ServedModel(checkpoint, engine, self._tokenizers, watch)

    def _shadow(self, checkpoint: Checkpoint) -> Shadow | None:
        config = self._config
        if not config.shadow_share:
            return None
        agreement = Agreement(checkpoint.calibration.table, config.shadow_window)
        return Shadow(
            checkpoint,
            agreement,
            config.shadow_share,
            random.Random(),
            first_slot=config.limits.slots,
            guarding=config.guard,
        )

    def _build_server(self) -> grpc.aio.Server:
        config = self._config
        telemetry = self._telemetry
        interceptors: list[grpc.aio.ServerInterceptor[Any, Any]] = []
        if telemetry.registry or telemetry.tracer:
            interceptors.append(CallInterceptor(telemetry.registry, telemetry.tracer))
        interceptors.append(ErrorInterceptor(config.max_message_bytes))
        if config.token_file is not None:
            interceptors.append(TokenInterceptor(read_tokens(config.token_file)))
        server = grpc.aio.server(interceptors=interceptors, options=server_options(config))
        classifier = ClassifierServicer(
            self.models, config.max_inputs, config.stream_window, self._draining
        )
        add_ClassifierServiceServicer_to_server(classifier, server)
        add_ModelServiceServicer_to_server(ModelServicer(self.models), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        return server


async def serve(
    config: ServerConfig, announce: Callable[[str], None], telemetry: Telemetry = OFF
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; `announce` is told the address once it serves.

    Raises ModelError or OSError if it cannot start, and whatever killed an engine.
    """
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()
    for signal_number in SIGNALS:
        loop.add_signal_handler(signal_number, signalled.set)
    app = App(config, telemetry)
    announce(await app.start())
    ends = [asyncio.create_task(signalled.wait()), asyncio.create_task(app.failed())]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    for task in ends:
        task.cancel()
    for signal_number in SIGNALS:
        loop.remove_signal_handler(signal_number)  # a second one does not wait for the drain
    await app.stop()


def _usable(name: str) -> torch.device:
    """The device of this name; raises ValueError if torch can't put anything on it."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        cause = str(error).partition("\n")[0]
        raise ValueError(f"device {name!r} is not usable here: {cause}") from error
    return device


def _backend_of(config: ServerConfig, *, on_gpu: bool) -> MakeBackend:
    limits = config.limits

    def make(checkpoint: Checkpoint, slots: int, device: torch.device) -> MeasuredBackend:
        # The graphs read confidences; rules that remember are scored step by step.
        if not on_gpu or checkpoint.calibration.rule.kind is not RuleKind.MAX_PROB:
            return TorchBackend(checkpoint, slots, device, config.precision)
        return DeviceBackend(
            checkpoint,
            slots,
            device,
            max_rows=limits.max_batch_rows,
            max_tokens=limits.max_batch_tokens,
            precision=config.precision,
        )

    return make


def _use_threads(threads: int) -> None:
    if threads:
        torch.set_num_threads(threads)
