"""One client over the life of its servers: restarts, connections that come of age, timeouts."""

import asyncio
from pathlib import Path

import pytest
from service import PATIENCE, WordBackend, eventually, word_service
from tiny import tiny_checkpoint

from offramp.client import AsyncClient, DeadlineExceededError, UnavailableError
from offramp.server.app import App
from offramp.server.config import ServerConfig


async def test_a_client_outlives_its_server(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "words")
    first = App(ServerConfig("127.0.0.1:0", (checkpoint,)), make_backend=WordBackend)
    address = await first.start()
    async with AsyncClient(address) as client:
        assert (await client.classify("easy")).label == "yes"
        await first.stop()
        with pytest.raises(UnavailableError):
            await client.classify("easy")
        second = App(ServerConfig(address, (checkpoint,)), make_backend=WordBackend)
        assert await second.start() == address
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    assert (await client.classify("easy")).label == "yes"
                    break
                except UnavailableError:
                    await asyncio.sleep(0.05)
        await second.stop()


async def test_connections_that_come_of_age_lose_no_call(tmp_path: Path) -> None:
    async with word_service(tmp_path, max_connection_age=0.1) as service:
        loop = asyncio.get_running_loop()
        ends = loop.time() + 0.6
        while loop.time() < ends:  # six ages
            await asyncio.gather(*[service.client.classify("easy") for _ in range(8)])
        texts = ["easy"] * 2000
        assert len([answer async for answer in service.client.classify_many(texts)]) == len(texts)


async def test_a_stream_ends_at_its_timeout(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service:
        answers = service.client.classify_many(["plug"], timeout=0.3)
        with pytest.raises(DeadlineExceededError):
            await anext(answers)
        service.backend.unplug()
        await eventually(lambda: service.scheduler.idle and service.held == (0, 0))


async def test_an_address_of_ip_version_6(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "words")
    app = App(ServerConfig("[::1]:0", (checkpoint,)), make_backend=WordBackend)
    try:
        address = await app.start()
    except OSError:
        await app.stop()
        pytest.skip("this machine has no IPv6")
    assert address.startswith("[::1]:")
    async with AsyncClient(address) as client:
        assert (await client.classify("easy")).label == "yes"
    await app.stop()
