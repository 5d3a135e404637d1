"""The server a good engineer writes in an hour: grpc.aio, model threads, batches of what waits.

Work-conserving: when a worker is free it takes whatever waits, up to the most; no timer. With
batches of 1 each text runs on its own. The message is the text itself, so nothing is parsed.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio
import uvloop
from forward import FullDepth
from settings import Settings, read_settings


async def serve(told: Settings) -> None:
    """Serve until killed."""
    waiting: asyncio.Queue[tuple[str, asyncio.Future[str]]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def classify(request: bytes, _: object) -> bytes:
        future: asyncio.Future[str] = loop.create_future()
        waiting.put_nowait((request.decode(), future))
        return (await future).encode()

    async def run() -> None:
        model, thread = FullDepth(told.model, told.threads, spins=told.spins), ThreadPoolExecutor(1)
        while True:
            batch = [await waiting.get()]
            while len(batch) < told.batch and not waiting.empty():
                batch.append(waiting.get_nowait())
            labels = await loop.run_in_executor(thread, model.labels, [text for text, _ in batch])
            for (_, future), label in zip(batch, labels, strict=True):
                if not future.done():
                    future.set_result(label)

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler = grpc.unary_unary_rpc_method_handler(classify)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("peer.Peer", {"Classify": handler}),)
    )
    server.add_insecure_port(f"127.0.0.1:{told.port}")
    await server.start()
    await asyncio.gather(*(run() for _ in range(told.workers)))


if __name__ == "__main__":
    uvloop.run(serve(read_settings()))
