"""What a unary call is made of: servers that each do one thing more, and the same in a tight loop.

    python bench/call.py --texts sst2/test.jsonl.gz --json bench/results/call.json

The backend answers at once (see overhead.py). Every server answers as many calls as it can; what it
uses of the CPU a call, less what the one before it does, is what its own part costs between gRPC's
work and everybody else's. In a tight loop the same part finds its code and data in the caches.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from math import inf
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop
from callers import CLASSIFY, unary_calls, unary_messages
from overhead import ROOT, InstantBackend, cpu_seconds, instant_config

from offramp.cli.load.circumstances import circumstances, yardstick
from offramp.cli.load.inputs import read_texts
from offramp.scheduler.request import Answer, Priority
from offramp.server.app import App
from offramp.server.garbage import settle
from offramp.server.prepare import Call, Prepared, prepare
from offramp.server.served import ModelRegistry
from offramp.server.servicer import call_of
from offramp.server.wire import fill
from offramp.v1 import classifier_service_pb2 as pb

LOOPED = 3000
MICRO = 1e6
WHOLE = "all of it, behind its gates"
Handler = Callable[[bytes, Any], Awaitable[bytes]]


async def _prepared(models: ModelRegistry, message: bytes, call: Call) -> Prepared:
    request = pb.ClassifyTextRequest.FromString(message)
    (item,) = await prepare(models, request.inputs, request.options, call, waits=False)
    assert isinstance(item, Prepared)
    return item


def _answered(item: Prepared, answer: Answer) -> bytes:
    response = pb.ClassifyTextResponse()
    fill(response.results.add(), (item, answer))
    return response.SerializeToString()


def ladder(models: ModelRegistry) -> dict[str, Handler]:
    """Handlers by what each does beyond the one before."""

    async def echo(message: bytes, _: object) -> bytes:
        return message

    async def read(message: bytes, context: Any) -> bytes:  # noqa: ANN401
        pb.ClassifyTextRequest.FromString(message)
        call_of(context, Priority.INTERACTIVE)
        return message

    async def prepares(message: bytes, context: Any) -> bytes:  # noqa: ANN401
        await _prepared(models, message, call_of(context, Priority.INTERACTIVE))
        return message

    async def schedules(message: bytes, context: Any) -> bytes:  # noqa: ANN401
        item = await _prepared(models, message, call_of(context, Priority.INTERACTIVE))
        await item.submit()
        return message

    async def answers(message: bytes, context: Any) -> bytes:  # noqa: ANN401
        item = await _prepared(models, message, call_of(context, Priority.INTERACTIVE))
        return _answered(item, await item.submit())

    return {
        "gRPC alone, an echo": echo,
        "message and deadline read": read,
        "checked and tokenized": prepares,
        "a step of the scheduler": schedules,
        "the answer's message": answers,
    }


async def in_a_loop(models: ModelRegistry, messages: Sequence[bytes]) -> dict[str, float]:
    """Microseconds of each part, done again and again."""
    call = Call(time.monotonic(), inf, Priority.INTERACTIVE)
    many = [messages[at % len(messages)] for at in range(LOOPED)]
    marks = [time.perf_counter()]
    items = [await _prepared(models, message, call) for message in many]
    marks.append(time.perf_counter())
    answers = [await item.submit() for item in items]
    marks.append(time.perf_counter())
    for item, answer in zip(items, answers, strict=True):
        _answered(item, answer)
    marks.append(time.perf_counter())
    parts = ("checked and tokenized", "a step of the scheduler", "the answer's message")
    spans = pairwise(marks)
    return {
        part: (end - start) / LOOPED * MICRO
        for part, (start, end) in zip(parts, spans, strict=True)
    }


async def _serve(checkpoint: Path, messages: Sequence[bytes], pipe: Connection) -> None:
    app = App(instant_config(checkpoint), make_backend=InstantBackend)
    ours = await app.start()
    settle()  # as `serve` does
    await in_a_loop(app.models, messages)
    looped = await in_a_loop(app.models, messages)
    addresses: dict[str, tuple[str, str]] = {}
    servers: list[grpc.aio.Server] = []
    for name, handler in ladder(app.models).items():
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        method = grpc.unary_unary_rpc_method_handler(handler)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("rung.Rung", {"Call": method}),)
        )
        addresses[name] = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", "/rung.Rung/Call"
        await server.start()
        servers.append(server)
    settle()
    pipe.send((looped, {**addresses, WHOLE: (ours, CLASSIFY)}))
    await asyncio.to_thread(pipe.recv)
    for server in servers:
        await server.stop(0)
    await app.stop()


def server_process(checkpoint: Path, messages: Sequence[bytes], pipe: Connection) -> None:
    """Serve all rungs in one process until told to stop."""
    uvloop.run(_serve(checkpoint, messages, pipe))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Measure what a unary call is made of.")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "sst2-minilm")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    messages = unary_messages(read_texts(args.texts))
    pipe, far = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=server_process, args=(args.checkpoint, messages, far))
    process.start()
    looped, addresses = pipe.recv()
    before = yardstick()
    rounds: dict[str, list[float]] = {name: [] for name in addresses}
    for _ in range(args.rounds):
        for name, (address, method) in addresses.items():
            used = cpu_seconds(process.pid or 0)
            calls, _ = uvloop.run(unary_calls(address, method, messages, args.seconds))
            used = cpu_seconds(process.pid or 0) - used
            rounds[name].append(used / calls * MICRO)
    pipe.send("stop")
    process.join()
    middle = {name: statistics.median(values) for name, values in rounds.items()}
    below = [0.0, *middle.values()]
    record = {
        **circumstances(),
        "yardstick_gflops": [before, yardstick()],
        "parts_us": {
            name: {"of_a_call": value - less, "in_a_loop": looped.get(name)}
            for (name, value), less in zip(middle.items(), below, strict=False)
        },
        "whole_us": middle[WHOLE],
        "rounds": rounds,
    }
    print(json.dumps({**record, "rounds": None}, indent=1))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
