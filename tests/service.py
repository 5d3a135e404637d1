"""A real server of the shipped checkpoint, for tests that need the wire."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from offramp.client import AsyncClient
from offramp.server.app import App
from offramp.server.config import ServerConfig

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "checkpoints" / "sst2-minilm"


@asynccontextmanager
async def serving() -> AsyncGenerator[AsyncClient]:
    """A client of a server on a free port, drained afterwards."""
    app = App(ServerConfig("127.0.0.1:0", (SHIPPED,), drain_grace=5.0))
    address = await app.start()
    try:
        async with AsyncClient(address) as client:
            yield client
    finally:
        await app.stop()
