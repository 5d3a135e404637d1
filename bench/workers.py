"""Steps at the same time or threads within a step: how a CPU's cores are best shared out.

    python bench/workers.py --texts sst2/test.jsonl.gz --json bench/results/workers.json

The server's engine in process, no gRPC: all texts at once at the default threshold and at full
depth, then one in flight. Each pair of workers and threads runs in processes of its own, in turn;
reported are medians, with CPU time, which other work on the machine hardly touches.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from offramp.cli.load.circumstances import circumstances, yardstick
from offramp.cli.load.inputs import read_texts
from offramp.model.tokenizer import Tokens
from offramp.scheduler.engine import Engine
from offramp.scheduler.request import Terms
from offramp.server.app import App
from offramp.server.config import ServerConfig

ROOT = Path(__file__).parents[1]
NEVER = 2.0
LONE = 150


async def _measure(checkpoint: Path, texts: Sequence[str], workers: int, threads: int) -> None:
    config = ServerConfig("127.0.0.1:0", (checkpoint,), workers=workers, threads=threads)
    model = App(config).models.get("")
    engine, last = model.engine, model.checkpoint.config.exits - 1
    default = model.checkpoint.calibration.default_threshold
    rows = model.checkpoint.tokenizer.encode([(text, None) for text in texts])
    running = asyncio.create_task(engine.run())
    await _all(engine, rows, Terms(default, 0, last))
    found: dict[str, float] = {}
    for name, threshold in (("default", default), ("full_depth", NEVER)):
        terms = Terms(threshold, 0, last)
        started, cpu = time.perf_counter(), time.process_time()
        await _all(engine, rows, terms)
        found[f"{name}_texts_per_second"] = len(rows) / (time.perf_counter() - started)
        found[f"{name}_cpu_ms"] = (time.process_time() - cpu) / len(rows) * 1e3
        lone: list[float] = []
        for row in rows[:LONE]:
            started = time.perf_counter()
            await engine.submit(row, len(row), terms, time.monotonic())
            lone.append((time.perf_counter() - started) * 1e3)
        found[f"{name}_lone_p50_ms"] = statistics.median(lone)
    engine.stop()
    await running
    print(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # the server was never started, so there is nothing to drain


async def _all(engine: Engine, rows: Sequence[Tokens], terms: Terms) -> None:
    now = time.monotonic()
    await asyncio.gather(*(engine.submit(row, len(row), terms, now) for row in rows))


def main() -> None:
    """Measure every pair in turn and write."""
    parser = argparse.ArgumentParser(description="How a CPU's cores are best shared out.")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "sst2-minilm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pair", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.pair:
        uvloop.run(_measure(args.checkpoint, read_texts(args.texts), *args.pair))
    cores = len(os.sched_getaffinity(0))
    pairs = [(1, 1), (1, cores), (cores, 1)]
    rounds: dict[str, list[dict[str, float]]] = {}
    before = yardstick()
    for _ in range(args.rounds):
        for workers, threads in pairs:
            command = [sys.executable, __file__, "--texts", str(args.texts)]
            command += ["--checkpoint", str(args.checkpoint)]
            command += ["--pair", str(workers), str(threads)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rounds.setdefault(f"{workers}x{threads}", []).append(json.loads(done.stdout))
    record = {
        **circumstances(),
        "yardstick_gflops": [before, yardstick()],
        "median": {
            pair: {name: statistics.median(one[name] for one in found) for name in found[0]}
            for pair, found in rounds.items()
        },
        "rounds": rounds,
    }
    print(json.dumps(record["median"], indent=1))
    if args.json:
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
