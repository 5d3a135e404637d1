"""Those who would rather wait for room in the queue than be refused."""

import asyncio
from collections import deque

from offramp.scheduler.scheduler import Scheduler


class Room:
    """Lets them in, first come first served, while there is room to spare.

    However many they are, they leave room for those who don't wait.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Return when there is room."""
        while not self._scheduler.has_room_to_spare:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    def grant(self) -> None:
        """Look whether there is room now."""
        while self._waiting and self._scheduler.has_room_to_spare:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
