"""Targets of the load generator for the peers: bare gRPC, and JSON over kept connections."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import grpc.aio

from offramp.cli.load.target import Reply


class Unary:
    """What both have in common: entered without ado, and no streams."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back what is held."""

    def classify_many(
        self, texts: AsyncIterator[str]
    ) -> AsyncIterator[tuple[int, Reply | Exception]]:
        """Peers have no streams."""
        raise NotImplementedError("peers answer unary calls alone")


def _same(message: bytes) -> bytes:
    return message


TIMEOUT = 60.0
"""Seconds of a call, as ours has; one that takes longer is an error."""


class BareGrpc(Unary):
    """The text as the message, the label as the answer."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._call = self._channel.unary_unary("/peer.Peer/Classify", _same, _same)

    async def classify(self, text: str) -> Reply:
        """One call."""
        return Reply((await self._call(text.encode(), timeout=TIMEOUT)).decode())

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close(None)


class Json(Unary):
    """POST of JSON over HTTP/1.1, as many kept connections as there are calls under way."""

    def __init__(
        self,
        address: str,
        path: str,
        body: Callable[[str], Any],
        label: Callable[[Any], str],
    ) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._path, self._body, self._label = path, body, label
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def classify(self, text: str) -> Reply:
        """One call."""
        async with asyncio.timeout(TIMEOUT):
            return await self._classify(text)

    async def _classify(self, text: str) -> Reply:
        body = json.dumps(self._body(text)).encode()
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: {self._host}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reader, writer = await self._connection()
        writer.write(head.encode() + body)
        status = int((await reader.readuntil(b"\r\n")).split()[1])
        headers = (await reader.readuntil(b"\r\n\r\n") if status else b"").lower()
        answer = await _read_body(reader, headers)
        if b"connection: close" in headers:
            writer.close()
        else:
            self._idle.append((reader, writer))
        if status != 200:
            raise ConnectionError(f"status {status}: {answer[:200]!r}")
        return Reply(self._label(json.loads(answer)))

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection used last, but none that the server has closed since for idling."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, int(self._port))

    async def close(self) -> None:
        """Close all connections."""
        for _, writer in self._idle:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _read_body(reader: asyncio.StreamReader, headers: bytes) -> bytes:
    for line in headers.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return await reader.readexactly(int(line.split(b":")[1]))
    parts: list[bytes] = []
    while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(parts)


def litserve(address: str) -> Json:
    """LitServe's route."""
    return Json(address, "/predict", lambda text: {"text": text}, lambda found: found["label"])


def ray(address: str) -> Json:
    """Ray Serve's route."""
    return Json(address, "/", lambda text: {"text": text}, lambda found: found["label"])


def bentoml(address: str) -> Json:
    """BentoML's route: a batch of one, that it merges with others."""
    return Json(address, "/classify", lambda text: {"texts": [text]}, lambda found: found[0])


def infinity(address: str) -> Json:
    """Infinity's route."""
    return Json(
        address,
        "/classify",
        lambda text: {"model": "peer", "input": [text]},
        lambda found: found["data"][0][0]["label"],
    )


def triton(address: str) -> Json:
    """KServe's protocol, version 2."""
    return Json(
        address,
        "/v2/models/peer/infer",
        lambda text: {
            "inputs": [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": [text]}]
        },
        lambda found: found["outputs"][0]["data"][0],
    )
