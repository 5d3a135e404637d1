"""One server of several, as the command that started it sees it: a process, and a link to it.

The link is the server's standard input, a socket; what is said there are signs, which mean what is
next: see processes.py.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

LINK, SIGN = 0, b"."
"""Of a member: its standard input, and what is said there."""


@dataclass(frozen=True, slots=True)
class Member:
    """One server, and our end of its link."""

    process: asyncio.subprocess.Process
    link: socket.socket
    ended: asyncio.Task[int]

    async def sign(self) -> bool:
        """Return when it gives one, or False when it has ended."""
        with suppress(ConnectionError):
            return bool(await asyncio.get_running_loop().sock_recv(self.link, len(SIGN)))
        return False

    def answer(self) -> None:
        """Give it one."""
        with suppress(OSError):
            self.link.send(SIGN)

    def forget_signs(self) -> None:
        """Of swaps that others asked it for."""
        with suppress(OSError):  # no more, or none any more
            while self.link.recv(len(SIGN)):
                pass

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if not self.ended.done():
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)  # Popen's own might find out its status first


@contextmanager
def held_back(number: signal.Signals) -> Generator[None]:
    """Keep a signal from this thread, and from whatever it starts, until it is let through."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})


def status_of(returned: int) -> int:
    """The exit status as a shell gives it, of what a process returned: minus a signal's number."""
    return returned if returned >= 0 else 128 - returned
