"""A loop that sleeps while there is nothing to do."""

import asyncio


class Sleeper:
    """One task that sleeps; whoever has something for it to do wakes it."""

    def __init__(self) -> None:
        self._asleep: asyncio.Future[None] | None = None

    async def sleep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Return when woken; `loop` is the one that runs."""
        # Not an Event, which looks the loop up, a call to the kernel, for every wait.
        self._asleep = loop.create_future()
        await self._asleep

    def wake(self) -> None:
        """Let it look for what there is to do; while it is awake it will anyway."""
        if self._asleep is not None and not self._asleep.done():
            self._asleep.set_result(None)
