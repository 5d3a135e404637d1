"""What serving costs when the model costs nothing, server and generator on the same cores.

    python bench/overhead.py --texts sst2/test.jsonl.gz --json bench/results/overhead.json

The real server, tokenizer included, with a backend that answers at once; beside it, in turn, a
bare grpc.aio echo of the same bytes. Reported: unary calls a second of both, texts a second over
streams of 32 texts a message, the longest step of the server's event loop beside the longest pause
of a process that does nothing, which is the machine's, and with `--profile` where the server's time
goes.
"""

import argparse
import asyncio
import cProfile
import json
import multiprocessing
import os
import pstats
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import torch
import uvloop
from callers import CLASSIFY, stream_messages, stream_rate, unary_messages, unary_rate
from pauses import LONG_STEP, LoopWatch, machine_pauses, steps

from offramp.cli.load.circumstances import circumstances, yardstick
from offramp.cli.load.inputs import read_texts
from offramp.model.checkpoint import Checkpoint
from offramp.scheduler.backend import Batch
from offramp.scheduler.reading import Reading
from offramp.server.app import App
from offramp.server.config import Limits, ServerConfig
from offramp.server.garbage import settle

ROOT = Path(__file__).parents[1]
CORES = os.cpu_count() or 1
ECHO = "/echo.Echo/Echo"
OURS, NOT_OURS, STOP = "ours", "not ours", "stop"
"""What the server's process is told: whose load follows, and when there is none."""


class InstantBackend:
    """Sure of everything, at once."""

    def __init__(self, checkpoint: Checkpoint, slots: int, device: torch.device) -> None:
        del checkpoint, slots, device
        self.padding = 0
        self._reading = Reading(1, 0.99, (0.01, 0.99))

    def warm(self, tokens: int) -> Iterable[Callable[[], None]]:
        """Nothing to compile."""
        del tokens
        return ()

    def run(self, batch: Batch) -> Sequence[Reading]:
        """The same reading for all."""
        return [self._reading] * len(batch.requests)


def instant_config(checkpoint: Path) -> ServerConfig:
    """A server with room for all that a model that costs nothing can take."""
    limits = Limits(max_batch_rows=64, slots=256, max_batch_tokens=4096)
    return ServerConfig("127.0.0.1:0", (checkpoint,), limits=limits, stream_window=512)


async def _serve(checkpoint: Path, pipe: Connection, *, profiled: bool) -> None:
    app = App(instant_config(checkpoint), make_backend=InstantBackend)
    echo = grpc.aio.server(options=[("grpc.so_reuseport", 0)])

    async def answer(request: bytes, _: object) -> bytes:
        return request

    handler = grpc.unary_unary_rpc_method_handler(answer)
    echo.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("echo.Echo", {"Echo": handler}),)
    )
    echo_port = echo.add_insecure_port("127.0.0.1:0")
    await echo.start()
    pipe.send((await app.start(), f"127.0.0.1:{echo_port}"))
    settle()  # as `serve` does
    watch = LoopWatch()
    watching = asyncio.create_task(watch.run())
    profile = cProfile.Profile()
    if profiled:
        profile.enable()
    while (told := await asyncio.to_thread(pipe.recv)) != STOP:
        watch.counting = told == OURS
    if profiled:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    await app.stop()
    await echo.stop(0)
    pipe.send(
        {
            "hold": steps(watch.holds),
            "cpu_of_a_hold": steps(watch.worked),
            "watched_s": watch.seconds,
        }
    )


def cpu_seconds(process: int) -> float:
    """CPU time of all threads of a process so far, user and system, in nanoseconds' resolution."""
    return time.clock_gettime((~process << 3) | 2)  # Linux's clock of another process


def server_process(checkpoint: Path, pipe: Connection, profiled: bool) -> None:  # noqa: FBT001
    """Serve in a process of its own until told to stop."""
    uvloop.run(_serve(checkpoint, pipe, profiled=profiled))


async def _rounds(
    addresses: tuple[str, str],
    texts: Sequence[str],
    seconds: float,
    rounds: int,
    cores: Pool,
    server: Connection,
) -> dict[str, Any]:
    ours, echo = addresses
    unary, stream = unary_messages(texts), stream_messages(texts)
    found: dict[str, list[float]] = {"echo": [], "unary": [], "stream": []}
    pauses: list[float] = []
    for _ in range(rounds):
        for seen in await asyncio.to_thread(cores.map, machine_pauses, [seconds] * CORES, 1):
            pauses += seen
        found["echo"].append(await unary_rate(echo, ECHO, unary, seconds))
        server.send(OURS)
        found["unary"].append(await unary_rate(ours, CLASSIFY, unary, seconds))
        found["stream"].append(await stream_rate(ours, stream, seconds))
        server.send(NOT_OURS)
    middle = {name: statistics.median(values) for name, values in found.items()}
    shares = [ours / theirs for ours, theirs in zip(found["unary"], found["echo"], strict=True)]
    return {
        "unary_calls_per_second": middle["unary"],
        "echo_calls_per_second": middle["echo"],
        "unary_share_of_echo": statistics.median(shares),
        "streamed_texts_per_second": middle["stream"],
        "rounds": found,
        "machine": {
            "longest_ms": max(pauses, default=0.0) * 1e3,
            "over_5_ms": sum(pause > LONG_STEP for pause in pauses),
            "watched_s": rounds * CORES * seconds,
        },
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description="Measure what serving costs when the model costs nothing."
    )
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "sst2-minilm")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    texts = read_texts(args.texts)
    pipe, far = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=server_process, args=(args.checkpoint, far, args.profile))
    process.start()
    far.close()  # so that a server that does not start ends this too
    addresses = pipe.recv()
    before = yardstick()
    with context.Pool(CORES) as cores:
        measured = _rounds(addresses, texts, args.seconds, args.rounds, cores, pipe)
        found = uvloop.run(measured)
    pipe.send(STOP)
    record = {
        **circumstances(),
        "yardstick_gflops": [before, yardstick()],
        **found,
        "event_loop": pipe.recv(),
    }
    process.join()
    print(json.dumps(record, indent=1))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
