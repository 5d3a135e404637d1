"""The engines that run: of the models served, and of those that finish what they hold."""

import asyncio

from offramp.scheduler.engine import Engine


class Engines:
    """Starts engines and lets them stop; knows if one died, which none should."""

    def __init__(self) -> None:
        self._running: dict[Engine, asyncio.Task[None]] = {}
        self._died = asyncio.Event()

    @property
    def alive(self) -> bool:
        """Whether none died."""
        return not self._died.is_set()

    async def death(self) -> None:
        """Return when an engine dies."""
        await self._died.wait()

    def start(self, engine: Engine) -> None:
        """Let it run until it is stopped."""
        task = asyncio.create_task(engine.run())
        self._running[engine] = task
        task.add_done_callback(self._ended)

    async def retire(self, engine: Engine) -> None:
        """Let one finish what it holds, and forget it."""
        engine.stop()
        await asyncio.wait([self._running[engine]])
        del self._running[engine]

    async def stop(self) -> None:
        """Let all finish what they hold; raises what killed one of them."""
        for engine in self._running:
            engine.stop()
        outcomes = await asyncio.gather(*self._running.values(), return_exceptions=True)
        for error in filter(None, outcomes):
            raise error

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._died.set()
