"""The checkpoint that comes with the source tree, and a server of one in this process."""

import asyncio
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from offramp.server.app import App
from offramp.server.config import ServerConfig

SHIPPED = Path(__file__).parents[3] / "checkpoints" / "sst2-minilm"


@contextmanager
def local_server(checkpoint: Path | None) -> Generator[str]:
    """Serve a checkpoint (None: the shipped one) on a free local port; gives the address.

    It runs on a thread of its own and is drained at the end. Raises ModelError, OSError or
    ValueError if it cannot start.
    """
    if checkpoint is None and not SHIPPED.is_dir():
        raise ValueError(
            "the shipped checkpoint comes with the source tree, not with the package;"
            " give --checkpoint or --address"
        )
    config = ServerConfig("127.0.0.1:0", (checkpoint or SHIPPED,))
    address: Future[str] = Future()
    done: Future[None] = Future()
    thread = Thread(target=asyncio.run, args=(_serve(config, address, done),), name="offramp")
    thread.start()
    try:
        yield address.result()
    finally:
        done.set_result(None)
        thread.join()


async def _serve(config: ServerConfig, address: Future[str], done: Future[None]) -> None:
    try:
        app = App(config)
        address.set_result(await app.start())
    except BaseException as error:  # noqa: BLE001 - raised again where the address is awaited
        address.set_exception(error)
    else:
        await asyncio.wrap_future(done)
        await app.stop()
