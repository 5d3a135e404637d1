"""The checkpoint that comes with the source tree, and a server of it in this process."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from offramp.server.app import App
from offramp.server.config import ServerConfig

SHIPPED = Path(__file__).parents[3] / "checkpoints" / "sst2-minilm"


@asynccontextmanager
async def local_server(checkpoint: Path | None) -> AsyncGenerator[str]:
    """Serve a checkpoint (None: the shipped one) on a free local port; gives the address."""
    app = App(ServerConfig("127.0.0.1:0", (checkpoint or SHIPPED,)))
    address = await app.start()
    try:
        yield address
    finally:
        await app.stop()
