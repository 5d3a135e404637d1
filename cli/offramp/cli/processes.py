"""Several servers behind one address: `offramp serve --processes`.

They share the port, over which the kernel spreads connections, the cores and the device, and
nothing else. They live and end together: this process serves nothing, starts them, hands on what
signals tell, and ends them all once one ends, for whoever restarts it. The first loads alone, so
that what is wrong is told once and what must be compiled for the device is compiled once. None
opens the port before all have loaded, or whoever waits for it would be the first one's for good.
They swap checkpoints one after the other: memory is needed for one model more, not for as many.

Each has a link to it, its standard input, on which both sides give signs: a server that it has
loaded, serves, has swapped; this process that all have loaded. A server ends when its link does, so
that none outlives whoever could end it.
"""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from offramp.cli.link import Member, held_back, status_of
from offramp.server.config import ServerConfig
from offramp.server.starter import SIGNALS
from offramp.server.telemetry.setup import HIGHEST_PORT, SCRAPE_PORT
from offramp.server.transport import check_files, hold_address

MEMBER = (sys.executable, "-P", "-m", "offramp.cli.member")
ENDED = {128 + signal.SIGTERM, 128 + signal.SIGKILL}
"""Statuses of those whom we ended."""

SCRAPED = "OTEL_EXPORTER_PROMETHEUS_PORT"
ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"


async def together(
    arguments: Sequence[str], config: ServerConfig, announce: Callable[[str], None]
) -> int:
    """Serve by `config.processes` servers until they end; returns the exit status.

    It is 0 if they were told to end and did so well. `announce` is told the address once all serve.
    Raises OSError or ValueError where address, files or ports are unusable.
    """
    first = os.environ.get(SCRAPED) or SCRAPE_PORT
    if first.isdecimal() and int(first) + config.processes - 1 > HIGHEST_PORT:
        raise ValueError(
            f"{SCRAPED} must leave {config.processes} servers a port each, not {first}"
        )
    held, address = hold_address(config.address)
    with held:
        check_files(config)
        servers = Servers((*MEMBER, *arguments, "--address", address), config.processes)
        return await servers.run(lambda: announce(address))


class Servers:
    """The servers of one command."""

    def __init__(self, command: Sequence[str], processes: int) -> None:
        self._command = command
        self._processes = processes
        self._members: list[Member] = []
        self._told: signal.Signals | None = None
        self._serving, self._changed = asyncio.Event(), asyncio.Event()

    async def run(self, announce: Callable[[], None]) -> int:
        """Start them, wait until one ends, end the others; returns the exit status."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGHUP, self._changed.set)
        swaps = asyncio.create_task(self._swap_in_turn())
        try:
            if await self._start():
                announce()
                self._serving.set()
            await asyncio.wait(self._ends, return_when=asyncio.FIRST_COMPLETED)
            unasked = self._tell_who_ended() if self._told is None else 0
        finally:
            swaps.cancel()
            if self._told is None:
                self._tell(signal.SIGTERM)
            statuses = {status_of(status) for status in await asyncio.gather(*self._ends)}
            for member in self._members:
                member.link.close()
        if unasked or self._told is None:
            return unasked or 1
        return max(statuses - ENDED, default=0) or (128 + self._told if statuses & ENDED else 0)

    @property
    def _ends(self) -> list[asyncio.Task[int]]:
        return [member.ended for member in self._members]

    async def _start(self) -> bool:
        """Whether all came to serve."""
        await self._add()
        if not await self._all_give_a_sign(self._members):
            return False
        for _ in range(1, self._processes):
            await self._add()
        if not await self._all_give_a_sign(self._members[1:]):
            return False
        for member in self._members:
            member.answer()
        return await self._all_give_a_sign(self._members)

    async def _add(self) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        # It finds SIGHUP held back, and what comes before it can listen is not lost on it.
        with theirs, held_back(signal.SIGHUP):
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=theirs.fileno(),
                env=environment(os.environ, len(self._members) + 1),
                process_group=0,  # a terminal's Ctrl-C is for us to hand on
            )
        member = Member(process, ours, asyncio.create_task(process.wait()))
        self._members.append(member)
        if self._told is not None:  # while it was started
            member.tell(signal.SIGTERM)

    async def _all_give_a_sign(self, members: Sequence[Member]) -> bool:
        """Whether they do, each one, before any server ends."""
        signs = asyncio.gather(*(member.sign() for member in members))
        either: set[asyncio.Future[Any]] = {signs, *self._ends}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if signs.done() and not any(ended.done() for ended in self._ends):
            return all(signs.result())
        signs.cancel()
        with suppress(asyncio.CancelledError):
            await signs
        return False

    def _end(self, number: signal.Signals) -> None:
        """Let them drain; told so again, end them at once."""
        self._tell(signal.SIGTERM if self._told is None else signal.SIGKILL)
        self._told = number

    def _tell(self, number: signal.Signals) -> None:
        for member in self._members:
            member.tell(number)

    async def _swap_in_turn(self) -> None:
        """Let them look for new checkpoints, each when the one before has."""
        await self._serving.wait()
        while await self._changed.wait():
            self._changed.clear()
            for member in self._members:
                if self._told is not None:
                    return
                member.forget_signs()
                member.tell(signal.SIGHUP)
                await member.sign()

    def _tell_who_ended(self) -> int:
        """Tell who ended unasked and with which status; returns it."""
        ended = (item for item in enumerate(self._members, 1) if item[1].ended.done())
        number, member = next(ended)
        status = status_of(member.ended.result())
        if len(self._members) > 1 or status > 128:  # or a first has told why it cannot start
            print(
                f"offramp serve: server {number} of {self._processes}, process"
                f" {member.process.pid}, ended with {status}, so all end",
                file=sys.stderr,
            )
        return status


def environment(ours: Mapping[str, str], number: int) -> dict[str, str]:
    """The environment of a server: its own port to be scraped at, and name if they have one."""
    theirs, first = dict(ours), ours.get(SCRAPED, SCRAPE_PORT)
    if first.isdecimal() and int(first):  # or refused, or free ones
        theirs[SCRAPED] = str(int(first) + number - 1)
    if ATTRIBUTES in ours:
        named = re.sub(r"(service\.instance\.id=[^,]*)", rf"\1-{number}", ours[ATTRIBUTES])
        theirs[ATTRIBUTES] = named
    return theirs
