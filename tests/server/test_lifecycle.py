"""Starting, being probed, draining on SIGTERM: a server among balancers and restarts."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from command import COMMAND, served
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from loglines import written
from service import PATIENCE, SHIPPED, WordBackend, eventually, word_service
from tiny import tiny_checkpoint
from unread import UnreadCall
from wire import reason, status_of, streamed, unary, wire

from offramp.client import AsyncClient, OfframpError, UnavailableError
from offramp.server.app import App, serve
from offramp.server.config import Limits, ServerConfig
from offramp.server.health import Health
from offramp.server.starter import Starter
from offramp.v1 import classification_pb2 as pb
from offramp.v1 import classifier_service_pb2 as service_pb

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = {"offramp.v1.ClassifierService", "offramp.v1.ModelService"}


async def test_health_and_reflection(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service, wire(service.address) as raw:
        health = health_pb2_grpc.HealthStub(raw.channel)
        for name in ("", *SERVICES):
            check = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert check.status == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await health.Check(health_pb2.HealthCheckRequest(service="other"))
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await health.Check(health_pb2.HealthCheckRequest(service="other" * 10_000))
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        every = await health.List(health_pb2.HealthListRequest())
        assert set(every.statuses) == {"", *SERVICES}
        assert {one.status for one in every.statuses.values()} == {SERVING}
        reflection = reflection_pb2_grpc.ServerReflectionStub(raw.channel)
        asked = iter(
            [
                reflection_pb2.ServerReflectionRequest(list_services=""),
                reflection_pb2.ServerReflectionRequest(file_containing_symbol=min(SERVICES)),
            ]
        )
        listed, described = [answer async for answer in reflection.ServerReflectionInfo(asked)]
        names = {service.name for service in listed.list_services_response.service}
        assert names >= SERVICES | {"grpc.health.v1.Health"}
        assert described.file_descriptor_response.file_descriptor_proto


async def test_a_method_that_nobody_implements(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service, wire(service.address) as raw:
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await raw.channel.unary_unary("/offramp.v1.ClassifierService/Other")(b"")  # type: ignore[call-arg]
        assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_second_server_on_the_port_is_refused(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service:
        second = App(ServerConfig(service.address, (tmp_path / "words",)))
        with pytest.raises(OSError, match=f"cannot listen on {service.address}"):
            await second.start()
        await second.stop()


async def test_a_taken_port_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service:
        nowhere = ServerConfig(service.address, (tmp_path / "nowhere",))
        with pytest.raises(OSError, match=f"{service.address}: Address already in use"):
            await serve(nowhere, Starter(print))


async def test_draining_answers_what_is_held_and_ends_streams_in_words(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service, wire(service.address) as raw:
        held = asyncio.ensure_future(service.client.classify("plug"))
        await service.backend.is_plugged()
        call = raw.classifier.StreamClassifyText()  # type: ignore[call-arg]
        await call.write(streamed([("a", "fine")]))
        await eventually(lambda: service.held == (1, 1))
        stopping = asyncio.ensure_future(service.app.stop())
        await asyncio.sleep(0)
        service.backend.unplug()
        assert (await held).label == "yes"
        message = await call.read()
        assert isinstance(message, service_pb.StreamClassifyTextResponse)
        assert [result.correlation_id for result in message.results] == ["a"]
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason(status_of(ended.value)) == "DRAINING"
        await stopping
        with pytest.raises(UnavailableError):
            await service.client.classify("fine")


async def test_draining_answers_all_of_a_message_that_was_read(tmp_path: Path) -> None:
    limits = Limits(slots=1, max_batch_rows=1, max_queue_requests=1)
    async with word_service(tmp_path, limits) as service, wire(service.address) as raw:
        call = raw.classifier.StreamClassifyText()  # type: ignore[call-arg]
        names = ["plug", *map(str, range(9))]
        await call.write(streamed((name, "plug" if name == "plug" else "easy") for name in names))
        await service.backend.is_plugged()
        await eventually(lambda: service.held == (1, 1))  # the other eight were read and wait
        stopping = asyncio.ensure_future(service.app.stop())
        await asyncio.sleep(0)
        service.backend.unplug()
        found: list[str] = []

        async def read_all() -> None:
            async for message in call:
                found.extend(result.correlation_id for result in message.results)

        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await read_all()
        assert sorted(found) == sorted(names)
        assert reason(status_of(ended.value)) == "DRAINING"
        await stopping


async def test_streams_of_health_and_reflection_end_with_the_drain(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service, wire(service.address) as raw:
        held = asyncio.ensure_future(service.client.classify("plug"))
        await service.backend.is_plugged()
        watches: list[Any] = [
            health_pb2_grpc.HealthStub(raw.channel).Watch(health_pb2.HealthCheckRequest())
            for _ in range(3)
        ]
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(raw.channel)
        call = reflection.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        assert (await call.read()).HasField("list_services_response")
        for watch in watches:
            assert (await watch.read()).status == SERVING
        stopping = asyncio.ensure_future(service.app.stop())
        for watch in watches:
            assert (await watch.read()).status == NOT_SERVING
        for stream in (*watches, call):
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await stream.read()
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "draining" in str(ended.value.details())
        assert not held.done()  # ours has all of the grace
        service.backend.unplug()
        assert (await held).label == "yes"
        await stopping


async def test_who_watches_health_and_reads_nothing_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, watch = 0, Health.Watch

    async def counted(self: Health, request: health_pb2.HealthCheckRequest, context: Any) -> None:  # noqa: ANN401
        nonlocal watched
        watched += 1
        await watch(self, request, context)

    monkeypatch.setattr(Health, "Watch", counted)
    async with word_service(tmp_path) as service, wire(service.address) as raw:
        with UnreadCall(service.address, "/grpc.health.v1.Health/Watch", b""):
            await eventually(lambda: watched == 1)
            other: Any = health_pb2_grpc.HealthStub(raw.channel).Watch(
                health_pb2.HealthCheckRequest(), timeout=PATIENCE
            )
            assert (await other.read()).status == SERVING
            stopping = asyncio.ensure_future(service.app.stop())
            assert (await other.read()).status == NOT_SERVING
            await asyncio.wait_for(stopping, PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_wait_for_the_drain(number: signal.Signals) -> None:
    with served("--checkpoint", SHIPPED, "--drain-pause", "3600") as server:
        server.process.send_signal(signal.SIGTERM)
        with grpc.insecure_channel(server.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while health.Check(health_pb2.HealthCheckRequest()).status == SERVING:
                time.sleep(0.01)
        server.process.send_signal(number)
        assert server.process.wait(PATIENCE) == 128 + number


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_loads_ends_it(
    tmp_path: Path, number: signal.Signals, processes: str
) -> None:
    config = tiny_checkpoint(tmp_path / "words") / "config.json"
    config.unlink()
    os.mkfifo(config)  # whoever reads it waits

    command = [*COMMAND, "serve", "--checkpoint", str(config.parent), "--address", "127.0.0.1:0"]
    command += ["--processes", processes]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            writer = os.open(config, os.O_WRONLY)  # waits until it is read
            process.send_signal(number)
            assert process.wait(PATIENCE) == 128 + number
            assert process.stderr is not None
            assert process.stderr.read() == b""
            os.close(writer)
        finally:
            process.kill()


async def test_a_dead_engine_ends_the_server_at_once(tmp_path: Path) -> None:
    app = App(
        ServerConfig("127.0.0.1:0", (tiny_checkpoint(tmp_path / "words"),), drain_pause=3600.0),
        make_backend=WordBackend,
    )
    async with AsyncClient(await app.start()) as client:
        waiting = asyncio.ensure_future(client.classify("void", timeout=PATIENCE))
        with written() as lines:
            await app.failed()
            with pytest.raises(AttributeError):
                await app.stop()
        with pytest.raises(OfframpError):
            await waiting
    (lost,) = lines.of("offramp.lost")
    assert str(lost["message"]).startswith("the model loop died: AttributeError")


async def test_sighup_before_anything_is_loaded_ends_nothing() -> None:
    command = (*COMMAND, "serve", "--address", "127.0.0.1:0", "--checkpoint", str(SHIPPED))
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    await eventually(lambda: hangups_are_ignored(process.pid))
    process.send_signal(signal.SIGHUP)
    assert process.stdout is not None
    assert (await process.stdout.readline()).startswith(b"offramp serves on")
    process.terminate()
    assert await process.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_before_anything_is_loaded_ends_it(number: signal.Signals) -> None:
    """By a status of its own: what a signal does by default it does not do to process 1."""
    command = (*COMMAND, "serve", "--address", "127.0.0.1:0", "--checkpoint", str(SHIPPED))
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    await eventually(lambda: signal.SIGTERM in handled_by(process.pid))
    process.send_signal(number)
    _, told = await process.communicate()
    assert (process.returncode, told) == (128 + number, b"")


async def test_an_announcement_that_finds_no_room_is_no_failure() -> None:
    serve = f"exec {sys.executable} -m offramp.cli.main serve --address 127.0.0.1:0"
    command = f"{serve} --checkpoint {SHIPPED} >/dev/full"
    process = await asyncio.create_subprocess_shell(command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    while b"offramp.start" not in (line := await process.stderr.readline()):
        assert line
    process.terminate()
    assert await process.wait() == 0


@pytest.mark.parametrize("processes", [1, 2])
async def test_closed_standard_streams_end_nothing(processes: int) -> None:
    serve = f"exec {sys.executable} -m offramp.cli.main serve --address 127.0.0.1:0"
    command = f"{serve} --checkpoint {SHIPPED} --processes {processes} <&- >&-"
    process = await asyncio.create_subprocess_shell(command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    for _ in range(processes):
        while b"offramp.start" not in (line := await process.stderr.readline()):
            assert line
    process.terminate()
    assert await process.wait() == 0


def hangups_are_ignored(process: int) -> bool:
    return signal.SIGHUP in signals_of(process, "SigIgn")


def handled_by(process: int) -> set[int]:
    return signals_of(process, "SigCgt")


def signals_of(process: int, kind: str) -> set[int]:
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    (mask,) = re.findall(rf"^{kind}:\s*(\w+)", status, re.MULTILINE)
    return {number for number in range(1, 65) if int(mask, 16) & 1 << number - 1}


async def test_sigterm_drains_a_real_server() -> None:
    long = ["a film that never ends " * 25] * 32
    with served("--checkpoint", SHIPPED, "--drain-pause", "1") as server:
        async with AsyncClient(server.address) as client, wire(server.address) as raw:
            health = health_pb2_grpc.HealthStub(raw.channel)
            watch = health.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            assert (await client.classify("a fine film")).label == "positive"
            call = raw.classifier.ClassifyText(
                unary(*long, options=pb.ClassifyOptions(threshold=1)), timeout=PATIENCE
            )
            running = asyncio.ensure_future(call)
            await call.wait_for_connection()
            server.process.send_signal(signal.SIGTERM)
            assert (await watch.read()).status == NOT_SERVING
            assert (await client.classify("late, but in the pause")).label
            answers = [result.classification for result in (await running).results]
            assert [answer.exit.layer for answer in answers] == [6] * len(long)
        assert await asyncio.to_thread(server.process.wait, PATIENCE) == 0
