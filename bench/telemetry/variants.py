"""Servers alike but for their telemetry, in one process whose CPU time is read.

    python bench/telemetry/variants.py real|instant ENVIRONMENTS     serves until its input ends

`real` runs the shipped checkpoint; `instant` answers at once, so that what is left is the cost of
serving. ENVIRONMENTS is a JSON object: each server's name and the variables that its telemetry is
configured by, as `offramp serve` is. They share the process, its memory and the model: two
processes of one program differ by some per cent for reasons of their own. They must be used in
turn, never at the same time.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import uvloop

from offramp.model.checkpoint import Checkpoint
from offramp.server.app import App
from offramp.server.config import ServerConfig
from offramp.server.garbage import settle
from offramp.server.hardware import MakeBackend, MeasuredBackend, suitable_backend
from offramp.server.telemetry.setup import Telemetry, configure

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "bench"))
from overhead import InstantBackend, cpu_seconds, instant_config  # noqa: E402

CHECKPOINT = ROOT / "checkpoints" / "sst2-minilm"


@dataclass(frozen=True, slots=True)
class Server:
    """One running server, and the process it runs in with others."""

    address: str
    pid: int

    def cpu_seconds(self) -> float:
        """As `overhead.cpu_seconds` of its process."""
        return cpu_seconds(self.pid)


@contextmanager
def running(
    kind: str, environments: Mapping[str, Mapping[str, str]]
) -> Generator[Mapping[str, Server]]:
    """Servers of this kind in one process, one for each set of variables; by name."""
    process = subprocess.Popen(
        [sys.executable, __file__, kind, json.dumps(environments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        addresses = process.stdout.readline()
        if not addresses:
            raise RuntimeError(f"the {kind} servers did not start")
        yield {name: Server(at, process.pid) for name, at in json.loads(addresses).items()}
    finally:
        process.stdin.close()
        process.wait()


async def _serve(kind: str, environments: Mapping[str, Mapping[str, str]]) -> None:
    make: MakeBackend = InstantBackend
    config = instant_config(CHECKPOINT)
    if kind == "real":
        config = ServerConfig("127.0.0.1:0", (CHECKPOINT,))
        make = suitable_backend(config)
    backends: list[MeasuredBackend] = []

    def shared(checkpoint: Checkpoint, slots: int, device: torch.device) -> MeasuredBackend:
        if not backends:
            backends.append(make(checkpoint, slots, device))
        return backends[0]

    apps: dict[str, tuple[App, Telemetry]] = {}
    for name, environment in environments.items():
        os.environ.update(environment)
        telemetry = configure()
        for variable in environment:
            del os.environ[variable]
        apps[name] = App(config, telemetry, make_backend=shared), telemetry
    addresses = {name: await app.start() for name, (app, _) in apps.items()}
    settle()  # as `serve` does
    print(json.dumps(addresses), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for app, telemetry in apps.values():
        await app.stop()
        await asyncio.to_thread(telemetry.close)


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], json.loads(sys.argv[2])))
