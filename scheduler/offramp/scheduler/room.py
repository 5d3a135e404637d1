"""Those who would rather wait for room in the queue than be refused."""

import asyncio
from collections import deque

from offramp.scheduler.scheduler import Scheduler


class Room:
    """Lets them in, first come first served, while there is room to spare.

    However many they are, they leave room for those who don't wait. As many are let in at a time as
    there are places to spare, and each has until its next wait to take one. Who comes while there
    are more places than all before need does not wait at all.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._came = 0
        self._let_in = 0
        """How many were let in and have not gone on yet."""

    async def wait(self) -> None:
        """Return when there is room."""
        if self._scheduler.spare_places > self._let_in + len(self._waiting):
            return
        loop = asyncio.get_running_loop()
        self._came += 1
        number, waiter = self._came, loop.create_future()
        self._waiting.append((number, waiter))
        while True:
            try:
                await waiter
            except asyncio.CancelledError:
                self._leave(number, waiter)
                raise
            self._let_in -= 1
            if self._scheduler.spare_places:
                break
            waiter = loop.create_future()  # somebody who does not wait took the place
            behind = (at for at, (other, _) in enumerate(self._waiting) if other > number)
            self._waiting.insert(next(behind, len(self._waiting)), (number, waiter))
        if self._waiting:
            loop.call_soon(self.grant)

    def grant(self) -> None:
        """Look whether there is room now, and let in as many as it is for."""
        while self._waiting and self._scheduler.spare_places > self._let_in:
            _, waiter = self._waiting.popleft()
            if not waiter.done():  # it may have given up in this very turn
                waiter.set_result(None)
                self._let_in += 1

    def _leave(self, number: int, waiter: asyncio.Future[None]) -> None:
        """Who waits no longer, perhaps when just let in, holds up nobody."""
        if waiter.cancelled():
            self._waiting = deque(one for one in self._waiting if one[0] != number)
        else:
            self._let_in -= 1
            self.grant()
