"""Servers alike but for their telemetry, each in a process of its own whose CPU time is read.

    python bench/telemetry/variants.py real|instant     serves on a free port until its input ends

`real` runs the shipped checkpoint; `instant` answers at once, so that what is left is the cost of
serving. OTLP and the rest are read from the environment, as `offramp serve` does.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from offramp.server.app import App
from offramp.server.config import Limits, ServerConfig
from offramp.server.telemetry.setup import configure

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "bench"))
from overhead import InstantBackend  # noqa: E402

CHECKPOINT = ROOT / "checkpoints" / "sst2-minilm"


@dataclass(frozen=True, slots=True)
class Server:
    """One running server."""

    address: str
    pid: int

    def cpu_seconds(self) -> float:
        """CPU time of all its threads so far, user and system, in nanoseconds' resolution."""
        return time.clock_gettime((~self.pid << 3) | 2)  # Linux's clock of another process


@contextmanager
def running(
    kind: str, environments: Mapping[str, Mapping[str, str]]
) -> Generator[Mapping[str, Server]]:
    """Servers of this kind, one for each set of variables, started at once; by name."""
    processes = {
        name: subprocess.Popen(
            [sys.executable, __file__, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **environment},
        )
        for name, environment in environments.items()
    }
    try:
        yield {name: Server(_address(process), process.pid) for name, process in processes.items()}
    finally:
        for process in processes.values():
            assert process.stdin is not None
            process.stdin.close()
        for process in processes.values():
            process.wait()


def _address(process: subprocess.Popen[str]) -> str:
    """Where a server listens, once it does."""
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    if not address:
        raise RuntimeError("a server did not start")
    return address


async def _serve(kind: str) -> None:
    telemetry = configure()
    limits = Limits(max_batch_rows=64, slots=256, max_batch_tokens=4096)
    if kind == "instant":
        config = ServerConfig("127.0.0.1:0", (CHECKPOINT,), limits=limits, stream_window=512)
        app = App(config, telemetry, make_backend=InstantBackend)
    else:
        app = App(ServerConfig("127.0.0.1:0", (CHECKPOINT,)), telemetry)
    print(await app.start(), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await app.stop()
    await asyncio.to_thread(telemetry.close)


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
