"""Several servers behind one address: connections are spread, and all live and end together."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from command import COMMAND, Served, offramp, served
from service import PATIENCE, eventually
from tiny import tiny_checkpoint

from offramp.cli.processes import Servers
from offramp.client import AsyncClient

COUNT = 2
CONNECTIONS = 64
"""The kernel draws a server for each, so that one server gets them all once in 2**63 runs."""

SWAPS = """
import os, signal, sys, time
def swap(*_):
    for word in ("begin", "end"):
        with open(sys.argv[1], "a") as log:
            print(word, file=log)
        time.sleep(0.05)
    os.write(0, b".")
signal.signal(signal.SIGHUP, swap)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
os.write(0, b".")
os.read(0, 1)
"""
PLAIN = (sys.executable, "-c", SWAPS)
"""Serves nothing, and swaps as slowly as none does."""


@contextmanager
def several(checkpoint: Path) -> Generator[Served]:
    """Servers of one command, in one thread each, which do not outlive the test."""
    given = ("--checkpoint", checkpoint, "--workers", "1", "--threads", "1")
    with served(*given, "--processes", str(COUNT)) as server:
        yield server


def children_of(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def runs(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def two_free_ports() -> int:
    """The first of two neighbours that nobody has."""
    while True:
        with socket.create_server(("localhost", 0)) as first:
            port = int(first.getsockname()[1])
            with suppress(OSError), closing(socket.create_server(("localhost", port + 1))):
                return port


def answered(port: int) -> float:
    with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=PATIENCE) as metrics:
        lines = metrics.read().decode().splitlines()
    counts = [line.split()[-1] for line in lines if line.startswith("offramp_requests_total{")]
    return sum(map(float, counts))


async def ask_all(address: str) -> list[str]:
    """The labels of one call on each of many connections."""
    answers: list[str] = []
    for _ in range(CONNECTIONS):
        async with AsyncClient(address) as client:
            answers.append((await client.classify("fine film", threshold=1)).label)
    return answers


async def test_connections_are_spread_checkpoints_swapped_and_all_drained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = two_free_ports()
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))
    checkpoint = tiny_checkpoint(tmp_path / "words")
    with several(checkpoint) as server:
        assert len(await ask_all(server.address)) == CONNECTIONS
        counts = [answered(port + number) for number in range(COUNT)]
        assert all(counts)
        assert sum(counts) == CONNECTIONS
        second = offramp("serve", "--checkpoint", checkpoint, "--address", server.address)
        assert "Address already in use" in second.stderr
        tiny_checkpoint(checkpoint, ("bad", "good"))
        server.process.send_signal(signal.SIGHUP)

        async def swapped() -> bool:
            return not {"no", "yes"} & set(await ask_all(server.address))

        async with asyncio.timeout(PATIENCE):
            while not await swapped():
                pass
        server.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.process.wait, PATIENCE) == 0


async def test_all_end_once_one_does(capfd: pytest.CaptureFixture[str]) -> None:
    serving = asyncio.Event()
    running = asyncio.create_task(Servers(PLAIN, COUNT).run(serving.set))
    await asyncio.wait_for(serving.wait(), PATIENCE)
    members = children_of(os.getpid())
    assert len(members) == COUNT
    os.kill(members[1], signal.SIGKILL)
    status = await asyncio.wait_for(running, PATIENCE)
    assert status == 128 + signal.SIGKILL
    assert not any(map(runs, members))
    assert f"process 2 of {COUNT} ended with {status}, so all end" in capfd.readouterr().err


async def test_they_swap_one_after_the_other(tmp_path: Path) -> None:
    log, serving = tmp_path / "log", asyncio.Event()
    running = asyncio.create_task(Servers((*PLAIN, str(log)), 3).run(serving.set))
    await asyncio.wait_for(serving.wait(), PATIENCE)
    signal.raise_signal(signal.SIGHUP)
    await eventually(lambda: log.exists() and log.read_text().count("end") == 3)
    assert log.read_text().split() == ["begin", "end"] * 3
    signal.raise_signal(signal.SIGTERM)
    assert await asyncio.wait_for(running, PATIENCE) == 0


async def test_none_outlives_the_one_that_started_them(tmp_path: Path) -> None:
    with several(tiny_checkpoint(tmp_path / "words")) as server:
        members = children_of(server.process.pid)
        assert len(members) == COUNT
        server.process.kill()
        await eventually(lambda: not any(map(runs, members)))


def test_what_is_wrong_is_told_once(tmp_path: Path) -> None:
    given = ("--address", "127.0.0.1:0", "--processes", COUNT)
    nothing = offramp("serve", "--checkpoint", tmp_path / "nothing", *map(str, given))
    assert nothing.returncode == 1
    assert nothing.stderr.count("offramp serve:") == 1
    assert "nothing" in nothing.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_first_one_loads(tmp_path: Path, number: signal.Signals) -> None:
    config = tiny_checkpoint(tmp_path / "words") / "config.json"
    config.unlink()
    os.mkfifo(config)  # whoever reads it waits
    command = [*COMMAND, "serve", "--checkpoint", str(config.parent), "--address", "127.0.0.1:0"]
    with subprocess.Popen([*command, "--processes", str(COUNT)]) as process:
        try:
            writer = os.open(config, os.O_WRONLY)  # waits until it is read
            process.send_signal(number)
            assert process.wait(PATIENCE) == 128 + number
            os.close(writer)
        finally:
            process.kill()
