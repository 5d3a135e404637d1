"""Several servers behind one address: `offramp serve --processes`.

They share the port, over which the kernel spreads connections, the cores and the device, and
nothing else. They live and end together: this process loads no model, starts them, hands on what
signals tell, and ends them all once one ends, for whoever restarts it. They swap checkpoints one
after the other, so that memory is needed for one model more, not for as many.

Each has a line to it, its standard input. A server writes a word there when it serves and whenever
it has swapped, and ends when the line does, so that none outlives whoever could end it.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from offramp.server.app import SIGNALS
from offramp.server.config import ServerConfig
from offramp.server.telemetry.setup import SCRAPE_PORT
from offramp.server.transport import check_files, hold_address

MEMBER = (sys.executable, "-m", "offramp.cli.member")
LINE, WORD = 0, b"."
"""Of a member: its standard input, and what it says there."""


async def together(
    arguments: Sequence[str], config: ServerConfig, announce: Callable[[str], None]
) -> int:
    """Serve by `config.processes` servers until they end; returns the exit status.

    It is 0 if they were told to end and did so well. `announce` is told the address once all serve.
    Raises OSError or ValueError where address or files are unusable.
    """
    held, address = hold_address(config.address)
    with held:
        check_files(config)
        servers = Servers((*MEMBER, *arguments, "--address", address), config.processes)
        return await servers.run(lambda: announce(address))


@dataclass(frozen=True, slots=True)
class Member:
    """One server, and our end of its line."""

    process: asyncio.subprocess.Process
    line: socket.socket
    ended: asyncio.Task[int]

    async def word(self) -> bool:
        """Return when it says one, or False when it has ended."""
        return bool(await asyncio.get_running_loop().sock_recv(self.line, len(WORD)))

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)


class Servers:
    """The servers of one command."""

    def __init__(self, command: Sequence[str], processes: int) -> None:
        self._command = command
        self._processes = processes
        self._members: list[Member] = []
        self._told: signal.Signals | None = None
        self._changed = asyncio.Event()

    async def run(self, announce: Callable[[], None]) -> int:
        """Start them, wait until one ends, end the others; returns the exit status."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGHUP, self._changed.set)
        try:
            await self._start(announce)
            swaps = asyncio.create_task(self._swap_in_turn())
            ends = [member.ended for member in self._members]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            swaps.cancel()
            unasked = self._told is None
            if unasked:
                if len(ends) > 1:  # of a first that did not start all is told
                    self._tell_who_ended()
                self._end(signal.SIGTERM)
            statuses = [_status(status) for status in await asyncio.gather(*ends)]
            return max(*statuses, int(unasked))
        finally:
            for member in self._members:
                member.line.close()

    async def _start(self, announce: Callable[[], None]) -> None:
        # The first is started alone: what is wrong is told once, and what must be compiled for the
        # device is in its cache when the others come.
        await self._add()
        if await self._members[0].word():
            for _ in range(1, self._processes):
                if self._told is None:
                    await self._add()
            ready = await asyncio.gather(*(member.word() for member in self._members[1:]))
            if all(ready) and self._told is None:
                announce()

    async def _add(self) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=theirs.fileno(),
                env=_environment(os.environ, len(self._members)),
                process_group=0,  # a terminal's Ctrl-C is for us to hand on
            )
        member = Member(process, ours, asyncio.create_task(process.wait()))
        self._members.append(member)
        if self._told is not None:  # while it was started
            member.tell(self._told)

    def _end(self, number: signal.Signals) -> None:
        self._told = number
        for member in self._members:
            member.tell(number)

    async def _swap_in_turn(self) -> None:
        """Let them look for new checkpoints, each when the one before has."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            for member in self._members:
                member.tell(signal.SIGHUP)
                await member.word()

    def _tell_who_ended(self) -> None:
        for number, member in enumerate(self._members, 1):
            if member.ended.done():
                print(
                    f"offramp serve: process {number} of {self._processes} ended with"
                    f" {_status(member.ended.result())}, so all end",
                    file=sys.stderr,
                )


def _environment(ours: Mapping[str, str], number: int) -> dict[str, str]:
    """The environment of a server: each is scraped at a port of its own, one after the other."""
    first = ours.get("OTEL_EXPORTER_PROMETHEUS_PORT", SCRAPE_PORT)
    if not first.isdecimal() or first == "0":  # refused, or free ones
        return dict(ours)
    return {**ours, "OTEL_EXPORTER_PROMETHEUS_PORT": str(int(first) + number)}


def _status(returned: int) -> int:
    """The exit status as a shell gives it, of what a process returned: minus a signal's number."""
    return returned if returned >= 0 else 128 - returned
