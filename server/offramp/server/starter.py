"""Whoever started a server: told how it gets on, and asked before the port is opened."""

import signal
from collections.abc import Callable

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""By which a server is told to end."""


class Starter:
    """The starter of a server that stands alone, which waits for nobody."""

    cuts_short = True
    """Whether a second signal ends the server in the middle of its drain."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self._announce = announce

    async def loaded(self) -> None:
        """Hear that the models are warm; return when the port may be opened."""

    def serves(self, address: str) -> None:
        """Hear where the server listens."""
        self._announce(address)

    def swapped(self) -> None:
        """Hear that the swaps of a SIGHUP are over."""
