"""One of the servers of `offramp serve --processes`, as processes.py starts it."""

import asyncio
import os
import signal
import socket
import sys
import threading
from contextlib import suppress

from offramp.cli.link import LINK, SIGN
from offramp.cli.serve_options import config_of, parser
from offramp.cli.serving import run
from offramp.server.starter import Starter


class Command(Starter):
    """The command that started us, at the other end of our standard input.

    It alone decides whether a drain is cut short: signals come to it and to us, as systemd sends
    them, or to us once more from it.
    """

    cuts_short = False

    def __init__(self) -> None:
        super().__init__(lambda _: self._tell())
        self._link = socket.socket(fileno=os.dup(LINK))
        self._all_loaded = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    async def loaded(self) -> None:
        """Tell, and wait until the others are as well."""
        self._loop = asyncio.get_running_loop()
        self._tell()
        await self._all_loaded.wait()

    def swapped(self) -> None:
        """Tell."""
        self._tell()

    def _listen(self) -> None:
        """Hear that all are loaded; end when the command does, loading or not."""
        with suppress(OSError):
            while os.read(LINK, len(SIGN)):
                assert self._loop is not None  # the command answers
                self._loop.call_soon_threadsafe(self._all_loaded.set)
        os.kill(os.getpid(), signal.SIGTERM)

    def _tell(self) -> None:
        """Without waiting: the command may be gone, or have more signs unread than it asked for."""
        with suppress(OSError):
            self._link.send(SIGN, socket.MSG_DONTWAIT)


def main() -> int:
    """Serve until told to end."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nothing is read that might have changed
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    command = Command()
    args = parser().parse_args()
    return run(args, config_of(args), command)


if __name__ == "__main__":
    sys.exit(main())
