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
from command import Served, offramp, served
from service import PATIENCE, eventually
from tiny import tiny_checkpoint

from offramp.cli.processes import Servers, environment, together
from offramp.client import AsyncClient
from offramp.server.config import ServerConfig
from offramp.server.transport import hold_address

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
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
os.write(0, b".")
os.read(0, 1)
os.write(0, b".")
while os.read(0, 1):
    pass
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
    with suppress(FileNotFoundError):
        status = Path(f"/proc/{pid}/stat").read_text()
        return status.rpartition(")")[2].split()[0] != "Z"
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
    serving, others = asyncio.Event(), set(children_of(os.getpid()))
    running = asyncio.create_task(Servers(PLAIN, COUNT).run(serving.set))
    await asyncio.wait_for(serving.wait(), PATIENCE)
    members = [pid for pid in children_of(os.getpid()) if pid not in others]
    assert len(members) == COUNT
    os.kill(members[1], signal.SIGKILL)
    status = await asyncio.wait_for(running, PATIENCE)
    assert status == 128 + signal.SIGKILL
    assert not any(map(runs, members))
    told = f"server 2 of {COUNT}, process {members[1]}, ended with {status}, so all end"
    assert told in capfd.readouterr().err


async def test_they_swap_one_after_the_other(tmp_path: Path) -> None:
    log, serving, others = tmp_path / "log", asyncio.Event(), set(children_of(os.getpid()))
    running = asyncio.create_task(Servers((*PLAIN, str(log)), 3).run(serving.set))
    await asyncio.wait_for(serving.wait(), PATIENCE)

    async def swapped(times: int) -> None:
        await eventually(lambda: log.exists() and log.read_text().count("end") == times)

    for pid in set(children_of(os.getpid())) - others:
        os.kill(pid, signal.SIGHUP)  # not by us: these signs are nobody's
    await swapped(3)
    log.unlink()
    signal.raise_signal(signal.SIGHUP)
    await swapped(3)
    assert log.read_text().split() == ["begin", "end"] * 3
    signal.raise_signal(signal.SIGTERM)
    assert await asyncio.wait_for(running, PATIENCE) == 0


async def test_a_hangup_before_a_server_listens_is_not_lost_on_it(tmp_path: Path) -> None:
    log, serving, others = tmp_path / "log", asyncio.Event(), set(children_of(os.getpid()))
    running = asyncio.create_task(Servers((*PLAIN, str(log)), 1).run(serving.set))
    await eventually(lambda: len(set(children_of(os.getpid())) - others) == 1)
    (pid,) = set(children_of(os.getpid())) - others
    os.kill(pid, signal.SIGHUP)
    await eventually(lambda: log.exists() and log.read_text().count("end") == 1)
    await asyncio.wait_for(serving.wait(), PATIENCE)
    signal.raise_signal(signal.SIGTERM)
    assert await asyncio.wait_for(running, PATIENCE) == 0


TELLS_MUCH = """
from offramp.cli.member import Command
command = Command()
for _ in range(10_000):
    command.swapped()
print("through", flush=True)
"""


def test_signs_that_nobody_reads_hold_up_nobody() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-c", TELLS_MUCH]
        done = subprocess.run(
            command, stdin=theirs.fileno(), capture_output=True, timeout=90, check=True
        )
    assert done.stdout == b"through\n"


SECOND_FAILS = """
import os, sys
if os.environ["OTEL_EXPORTER_PROMETHEUS_PORT"] == "9465":
    sys.exit(3)
os.write(0, b".")
os.read(0, 1)
"""


async def test_one_that_cannot_start_ends_those_that_wait_for_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_PROMETHEUS_PORT", raising=False)
    serving = asyncio.Event()
    servers = Servers((sys.executable, "-c", SECOND_FAILS), 3)
    status = await asyncio.wait_for(servers.run(serving.set), PATIENCE)
    assert status == 3
    assert not serving.is_set()
    told = capfd.readouterr().err
    assert told.startswith("offramp serve: server 2 of 3, process ")
    assert told.endswith(", ended with 3, so all end\n")


DRAINS = """
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: os.write(0, b"."))
for _ in range(2):
    os.write(0, b".")
    os.read(0, 1)
"""


async def test_told_twice_they_end_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    serving = asyncio.Event()
    servers = Servers((sys.executable, "-c", DRAINS), COUNT)
    running = asyncio.create_task(servers.run(serving.set))
    await asyncio.wait_for(serving.wait(), PATIENCE)
    signal.raise_signal(signal.SIGINT)
    draining = [member.sign() for member in servers._members]  # pyright: ignore[reportPrivateUsage]
    assert await asyncio.wait_for(asyncio.gather(*draining), PATIENCE) == [True] * COUNT
    assert not running.done()
    signal.raise_signal(signal.SIGTERM)
    assert await asyncio.wait_for(running, PATIENCE) == 128 + signal.SIGTERM
    assert not capfd.readouterr().err


async def test_what_cannot_be_announced_ends_all() -> None:
    def closed() -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await asyncio.wait_for(Servers(PLAIN, COUNT).run(closed), PATIENCE)


async def test_each_has_a_port_and_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "65535")
    with pytest.raises(ValueError, match="must leave 2 servers a port each, not 65535"):
        await together((), ServerConfig("127.0.0.1:0", (Path("x"),), processes=2), print)
    given = {"OTEL_RESOURCE_ATTRIBUTES": "a=b,service.instance.id=pod,c=d"}
    assert environment(given, 2) == {
        "OTEL_RESOURCE_ATTRIBUTES": "a=b,service.instance.id=pod-2,c=d",
        "OTEL_EXPORTER_PROMETHEUS_PORT": "9465",
    }


def test_a_port_that_is_held_is_taken() -> None:
    held, address = hold_address("127.0.0.1:0")
    with held, pytest.raises(OSError, match=f"{address}: Address already in use"):
        hold_address(address)


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
