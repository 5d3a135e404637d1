"""Those who would rather wait for room in the queue than be refused."""

import asyncio
from collections import deque

from offramp.scheduler.scheduler import Scheduler


class Room:
    """Lets them in, first come first served, while there is room to spare.

    However many they are, they leave room for those who don't wait. One is let in at a time and
    has until its next wait to use the room; then the next one is, if there is room still.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._let_in: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Return when there is room."""
        loop = asyncio.get_running_loop()
        if not self._waiting and self._let_in is None and self._scheduler.has_room_to_spare:
            return
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.append(waiter)
        while True:
            try:
                await waiter
            except asyncio.CancelledError:
                self._leave(waiter)
                raise
            self._let_in = None
            if self._scheduler.has_room_to_spare:
                loop.call_soon(self.grant)
                return
            waiter = loop.create_future()  # somebody who does not wait took it
            self._waiting.appendleft(waiter)

    def grant(self) -> None:
        """Look whether there is room now, and let the first in if so."""
        if self._waiting and self._let_in is None and self._scheduler.has_room_to_spare:
            self._let_in = self._waiting.popleft()
            self._let_in.set_result(None)

    def _leave(self, waiter: asyncio.Future[None]) -> None:
        """Who waits no longer, perhaps when just let in, holds up nobody."""
        if waiter is self._let_in:
            self._let_in = None
            self.grant()
        else:
            self._waiting.remove(waiter)
