"""The composition root: builds everything from the configuration, runs it, and drains it."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from itertools import chain
from types import FrameType
from weakref import ref

import torch

from offramp.server.config import ServerConfig
from offramp.server.drain import OpenCalls, stop_server
from offramp.server.engines import Engines
from offramp.server.garbage import release, settle
from offramp.server.hardware import MakeBackend
from offramp.server.health import Health
from offramp.server.loader import Loader
from offramp.server.served import ModelRegistry
from offramp.server.services import SERVICES, build_server
from offramp.server.starter import SIGNALS, Starter
from offramp.server.swap import Swap
from offramp.server.telemetry.inputs import invalid_inputs
from offramp.server.telemetry.logs import Event, log_event
from offramp.server.telemetry.process_metrics import LoopLag, watch_memory
from offramp.server.telemetry.setup import OFF, Telemetry
from offramp.server.transport import check_address, check_files, open_port
from offramp.server.vitals import looked_at

NO_MEMORY = ("allocate memory", "could not create a primitive")


class App:
    """A server with its models loaded and warm; `start` opens its port, `stop` drains it.

    Raises ModelError, OSError or ValueError where something given is unusable.
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
        self._scrape_port = telemetry.scrape_port
        self._loop_lag = LoopLag(telemetry.registry) if telemetry.registry else None
        self._loader = Loader(config, telemetry, make_backend)
        if telemetry.registry is not None:
            watch_memory(telemetry.registry, self._loader.device)
        served = [self._loader.load(path) for path in config.checkpoints]
        for model in served:
            model.attach()
        self.models = ModelRegistry(served, invalid_inputs(telemetry.registry))
        self._directories = dict(
            zip((model.checkpoint.name for model in served), config.checkpoints, strict=True)
        )
        self._draining = asyncio.Event()
        self._health = Health()
        self._calls = OpenCalls()
        self._server = build_server(
            config, telemetry, self.models, self._health, self._draining, self._calls
        )
        self._engines = Engines()
        self._swap = Swap(
            self._loader, self.models, self._engines, telemetry.registry, config.drain_grace
        )

    async def start(self) -> str:
        """Open the port and serve; returns the address it listens on.

        Raises OSError if the address is taken or not ours.
        """
        host = self._config.address.rpartition(":")[0]
        port = open_port(self._server, self._config)
        for model in self.models:
            self._engines.start(model)
        await self._server.start()
        if self._loop_lag is not None:
            self._loop_lag.start()
        self._health.serves("", *SERVICES)
        address, names = f"{host}:{port}", [model.checkpoint.name for model in self.models]
        scraped = self._scrape_port
        log_event(Event.START, "serving", address=address, models=names, scrape_port=scraped)
        return address

    async def failed(self) -> None:
        """Return only if an engine or a model died, which none should; the server is of no use."""
        await self._engines.death()

    async def swap(self) -> "list[ref[object]]":
        """Read every checkpoint again and serve what is new; returns when what was old is released.

        One that is unusable is logged, and the old one served on. What was swapped is referred to
        as long as anything holds it.
        """
        swapped = [await self._swap.swap(*item) for item in self._directories.items()]
        return list(chain.from_iterable(swapped))

    async def stop(self) -> None:
        """Drain: tell the health service, wait for balancers, take nothing new, finish the rest.

        Raises whatever killed an engine; there is no waiting then, for nothing would finish.
        """
        config = self._config
        alive = self._engines.alive
        self._health.drain()
        await asyncio.sleep(config.drain_pause if alive else 0)
        self._draining.set()
        await stop_server(self._server, self._calls, config.drain_grace if alive else 0)
        if self._loop_lag is not None:
            self._loop_lag.stop()
        try:
            await self._engines.stop()
        finally:
            self._loader.close(wait=self._engines.alive)
            for model in self.models:
                model.close()
            log_event(Event.STOP, "stopped", seconds=round(time.monotonic() - self._started, 3))


async def serve(config: ServerConfig, starter: Starter, telemetry: Telemetry = OFF) -> None:
    """Serve until SIGTERM or SIGINT, then drain; SIGHUP swaps the checkpoints that changed.

    While it loads, SIGTERM and SIGINT end the process at once, and SIGHUP waits. Raises ModelError
    or OSError if it cannot start, and whatever killed an engine.
    """
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, changed.set)
    if config.processes == 1:  # otherwise whoever started us has it
        check_address(config.address)
    check_files(config)
    with _signals_end_it(sys.exit):
        try:
            app = App(config, telemetry)
        except (MemoryError, RuntimeError) as error:
            cause = str(error).partition("\n")[0]
            if not lacks_memory(error):
                raise
            raise ValueError(f"too little memory for models and slots: {cause}") from error
        await starter.loaded()
    signalled = asyncio.Event()
    for signal_number in SIGNALS:
        loop.add_signal_handler(signal_number, signalled.set)
    starter.serves(await app.start())
    settle()
    ends = [asyncio.create_task(signalled.wait()), asyncio.create_task(app.failed())]
    swaps = asyncio.create_task(swap_whenever(changed, app, starter.swapped))
    async with looked_at():
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in (*ends, swaps):
            task.cancel()
        for signal_number in (*SIGNALS, signal.SIGHUP):
            loop.remove_signal_handler(signal_number)
        for signal_number in (signal.SIGHUP, *(() if starter.cuts_short else SIGNALS)):
            signal.signal(signal_number, signal.SIG_IGN)
        # A second one does not wait for the drain.
        with _signals_end_it(os._exit) if starter.cuts_short else nullcontext():
            try:
                await app.stop()
            finally:
                release()


def lacks_memory(error: BaseException) -> bool:
    """Whether that is what an error says: those of PyTorch on a CPU have no type of their own."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in NO_MEMORY)


@contextmanager
def _signals_end_it(leave: Callable[[int], object]) -> Generator[None]:
    """Let signals leave the process with the status that a shell gives those that they ended.

    Their default action would not do: the kernel spares process 1 of a container.
    """

    def end(signal_number: int, _: FrameType | None) -> None:
        leave(128 + signal_number)

    before = {signal_number: signal.signal(signal_number, end) for signal_number in SIGNALS}
    try:
        yield
    finally:
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)


async def swap_whenever(changed: asyncio.Event, app: App, swapped: Callable[[], object]) -> None:
    """Swap once for all the times that were told while the last swap took its time."""
    while True:
        await changed.wait()
        changed.clear()
        if old := await app.swap():
            settle()
            if any(one() is not None for one in old):  # which may be as frozen as all else
                release()
                settle()
        swapped()
