"""The engines that run: of the models served, and of those that finish what they hold."""

import asyncio
import logging

from offramp.scheduler.engine import Engine
from offramp.server.served import ServedModel
from offramp.server.telemetry.logs import Event, log_event
from offramp.server.vitals import ModelLostError, fails, hangs


class Engines:
    """Starts engines and lets them stop; knows if one died, which none should."""

    def __init__(self) -> None:
        self._running: dict[Engine, asyncio.Task[None]] = {}
        self._over = asyncio.Event()

    @property
    def alive(self) -> bool:
        """Whether none died."""
        return not self._over.is_set()

    async def death(self) -> None:
        """Return when an engine dies."""
        await self._over.wait()

    def start(self, model: ServedModel) -> None:
        """Let a model's engine run until it is stopped, or dies, or its model does."""
        task = asyncio.create_task(_run(model))
        self._running[model.engine] = task
        task.add_done_callback(self._ended)

    async def retire(self, engine: Engine) -> None:
        """Let one finish what it holds, and forget it unless it dies of it."""
        engine.stop()
        task = self._running[engine]
        await asyncio.wait([task])
        if not _died(task):
            del self._running[engine]

    async def stop(self) -> None:
        """Let all finish what they hold, or none if one died; raises what killed it."""
        for engine, task in self._running.items():
            engine.stop()
            if not self.alive:
                task.cancel()
        outcomes = await asyncio.gather(*self._running.values(), return_exceptions=True)
        for error in filter(None, outcomes):
            if not isinstance(error, asyncio.CancelledError):
                raise error

    def _ended(self, task: asyncio.Task[None]) -> None:
        if _died(task):
            self._over.set()


def _died(task: asyncio.Task[None]) -> bool:
    """Whether a task that is done did not come to its end."""
    return task.cancelled() or task.exception() is not None


async def _run(model: ServedModel) -> None:
    """Run an engine, and look whether its model still works."""
    run = asyncio.ensure_future(model.engine.run())
    tasks = (run, asyncio.ensure_future(hangs(model)), asyncio.ensure_future(fails(model)))
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    errors = [error for task in done if (error := task.exception()) is not None]
    for error in errors:
        lost = isinstance(error, ModelLostError)
        sign = str(error) if lost else f"the model loop died: {error!r}"
        log_event(Event.LOST, sign, logging.ERROR, model=model.checkpoint.name)
        raise error
