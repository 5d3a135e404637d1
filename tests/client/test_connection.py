"""One client over the life of its servers: restarts, connections that come of age, timeouts."""

import asyncio
from collections.abc import AsyncIterator
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from service import PATIENCE, WordBackend, eventually, word_service
from tiny import tiny_checkpoint

from offramp.client import AsyncClient, Client, DeadlineExceededError, UnavailableError
from offramp.client.channel import UNBOUNDED, channel_options
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


def test_a_server_that_is_back_is_found_within_seconds() -> None:
    assert dict(channel_options("h:1", retries=True))["grpc.max_reconnect_backoff_ms"] == 2000


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


@pytest.mark.parametrize("endless", [UNBOUNDED, 1e12, inf])
async def test_a_timeout_beyond_all_bounds_is_none(endless: float, tmp_path: Path) -> None:
    async with word_service(tmp_path) as service:
        assert (await service.client.classify("easy", timeout=endless)).label == "yes"
        many = service.client.classify_many(["easy"], timeout=endless)
        assert [answer.label async for answer in many] == ["yes"]

        def program() -> None:
            with Client(service.address, timeout=endless) as client:
                assert client.classify("easy").label == "yes"

        await asyncio.to_thread(program)


@pytest.mark.parametrize("timeout", [0, -1, -inf, nan])
def test_a_timeout_that_is_none_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="above 0 seconds"):
        Client("127.0.0.1:1", timeout=timeout)


async def test_calls_of_a_client_that_is_closed_are_told_so(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service:
        client = AsyncClient(service.address)
        many = client.classify_many(["plug"])
        calls = [
            asyncio.ensure_future(client.classify("plug")),
            asyncio.ensure_future(anext(many)),
        ]
        await service.backend.is_plugged()
        await eventually(lambda: service.scheduler.queued + service.scheduler.slots.held == 2)
        await client.close()
        told = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(one) for one in told] == [UnavailableError] * 2
        service.backend.unplug()


async def test_a_call_whose_task_is_cancelled_is_cancelled(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service:
        call = asyncio.ensure_future(service.client.classify("plug"))
        await service.backend.is_plugged()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        service.backend.unplug()


async def test_a_cancellation_in_the_callers_texts_is_the_callers(tmp_path: Path) -> None:
    async def texts() -> AsyncIterator[str]:
        yield "easy"
        given_up = asyncio.get_running_loop().create_future()
        given_up.cancel()
        await given_up

    async with word_service(tmp_path) as service:
        with pytest.raises(asyncio.CancelledError):
            async for _ in service.client.classify_many(texts()):
                pass


async def test_a_closed_client_says_so() -> None:
    client = AsyncClient("127.0.0.1:1")
    await client.close()
    with pytest.raises(ValueError, match="this client is closed"):
        await client.classify("fine")
    with pytest.raises(ValueError, match="this client is closed"):
        await anext(client.classify_many(["fine"]))
    own = Client("127.0.0.1:1")
    own.close()
    with pytest.raises(ValueError, match="this client is closed"):
        own.classify("fine")
    with pytest.raises(ValueError, match="this client is closed"):
        next(own.classify_many(["fine"]))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"timeout": "5"}, "a timeout must be a number of seconds, not '5'"),
        ({"min_exit": "1"}, "min_exit must be the index of an exit, not '1'"),
        ({"max_exit": 2**40}, "max_exit must be the index of an exit, from 0"),
        ({"model": 5}, "model must be a name, not 5"),
        ({"all_probabilities": "yes"}, "all_probabilities must be True or False, not 'yes'"),
        ({"threshold": 10**400}, "threshold must be a number from 0 to 1"),
        ({"max_accuracy_drop": -(10**5000)}, "max_accuracy_drop must be a number from 0 to 1"),
    ],
)
def test_a_wrong_argument_is_named(options: dict[str, Any], told: str) -> None:
    with (
        Client("127.0.0.1:1") as client,
        pytest.raises((TypeError, ValueError), match=told),
    ):
        client.classify("fine", **options)


@pytest.mark.parametrize("token", ["two\nlines", "line\n", "tökén", "bell\x07"])
def test_a_token_that_cannot_travel_is_refused_untold(token: str) -> None:
    for client in (Client, AsyncClient):
        with pytest.raises(ValueError, match="printable ASCII on one line") as refused:
            client("127.0.0.1:1", token=token)
        assert token not in str(refused.value)


def test_a_token_is_a_string() -> None:
    for client in (Client, AsyncClient):
        with pytest.raises(TypeError, match="a token must be a string, not bytes"):
            client("127.0.0.1:1", token=b"secret")  # type: ignore[arg-type]


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
