"""A server under test: started with all it starts, counted, and ended to the last process."""

import asyncio
import os
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from environments import SERVERS

from offramp.cli.load.target import Target

STARTING = 90.0
"""Seconds until a server must have answered."""

ENDING = 8.0
MARK = "OFFRAMP_PEER_PORT"


class StartError(Exception):
    """A server never answered; says what it last wrote."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, found by the port in the environment that all its processes inherit."""

    port: int

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def processes(self) -> list[int]:
        """All its processes, those too that made themselves a session of their own."""
        mark = f"{MARK}={self.port}".encode()
        found: list[int] = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):  # it has just ended
                if mark in environ.read_bytes().split(b"\0"):
                    found.append(int(environ.parent.name))
        return found

    def cpu_seconds(self) -> float:
        """CPU seconds that its processes have used."""
        ticks = 0
        for number in self.processes():
            with suppress(OSError):
                fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End its processes, gently first."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            ends = time.monotonic() + ENDING
            for process in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(process, number)
            while self.processes() and time.monotonic() < ends:
                time.sleep(0.1)


@contextmanager
def started(
    command: Callable[[int], Sequence[str]], told: Mapping[str, object], log: Path
) -> Generator[Server]:
    """A server on a free port, told the rest by its environment; its output goes to `log`."""
    server = Server(free_port())
    environment = {
        **os.environ,
        **{f"OFFRAMP_PEER_{name.upper()}": str(value) for name, value in told.items()},
        MARK: str(server.port),
        "PYTHONPATH": str(SERVERS),
        "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")),  # Triton embeds Python
        "DO_NOT_TRACK": "1",
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            command(server.port), env=environment, stdout=output, stderr=output
        )
        try:
            yield server
        finally:
            server.end()
            process.wait()


def others_busy(seconds: float = 1.0) -> float | None:
    """Share of all cores that others use just now, niced work left out; None without /proc."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None

    def ticks() -> list[int]:
        return [int(field) for field in stat.read_text().split("\n", 1)[0].split()[1:9]]

    before = ticks()
    time.sleep(seconds)
    user, nice, system, idle, *waits = (b - a for a, b in zip(before, ticks(), strict=True))
    return (user + system) / max(1, user + nice + system + idle + sum(waits))


def free_port() -> int:
    """A port nobody listens on, nor on the two after it."""
    while True:
        with suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            second.bind(("127.0.0.1", port + 1))
            with socket.socket() as third:
                third.bind(("127.0.0.1", port + 2))
            return port


async def until_answering(make: Callable[[], Target[str]], text: str, log: Path) -> None:
    """Return once a call succeeds; raises StartError."""
    ends = time.monotonic() + STARTING
    while True:
        try:
            async with asyncio.timeout(5), make() as target:
                await target.classify(text)
                return
        except Exception as error:
            if time.monotonic() > ends:
                raise StartError(f"never answered; {_last_words(log)}") from error
            await asyncio.sleep(0.3)


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"its last words: {lines[-1]}" if lines else "it said nothing"
