"""`make bench`: a short suite whose ratios are compared with the committed ones.

Absolute times mean little on shared machines, so each figure is a ratio of two things measured in
turn in one run: early exits over full depth in the same server, for saturation and for latency;
the server's streams over the bare stage runner, at full depth; and the stage runner over the
reference module. A ratio worse than `SLACK` of the committed one, one that is missing or new, and
any text without an answer fail the suite. `--write` makes the present ratios the committed ones.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
from math import nan
from pathlib import Path

import torch
import uvloop

from offramp.cli.load.circumstances import circumstances, yardstick
from offramp.cli.load.report import summarize
from offramp.cli.load.run import closed_loop, saturated_stream
from offramp.cli.load.target import OfframpTarget
from offramp.client import Options
from offramp.model.checkpoint import load_checkpoint
from offramp.model.packing import PackedTokens
from offramp.model.runner import ModuleRunner, StageRunner, runner_of

ROOT = Path(__file__).parents[1]
CHECKPOINT = ROOT / "checkpoints" / "sst2-minilm"
COMMITTED = ROOT / "bench" / "results" / "regressions.json"
ROUNDS = 3
PASSES = 9
SECONDS = 5.0
SLACK = 0.8
STARTING = 60.0


class ServerError(Exception):
    """The server did not start, or a text had no answer."""


def main() -> int:
    """Measure, compare, tell; returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Measure ratios and compare them with the committed ones."
    )
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    texts = (ROOT / "demo" / "sentences.txt").read_text(encoding="utf-8").splitlines()
    ratios, bare = stage_ratios(texts)
    try:
        ratios |= server_ratios(texts, bare)
    except ServerError as error:
        print(f"bench/regressions.py: {error}", file=sys.stderr)
        return 1
    if args.write:
        COMMITTED.parent.mkdir(exist_ok=True)
        told = {"threads": torch.get_num_threads(), "yardstick_gflops": yardstick()}
        record = {**circumstances(), **told, "ratios": ratios}
        COMMITTED.write_text(json.dumps(record, indent=1) + "\n")
    lines, status = compared(ratios, json.loads(COMMITTED.read_text())["ratios"])
    print("\n".join(lines))
    return status


def compared(ratios: dict[str, float], committed: dict[str, float]) -> tuple[list[str], int]:
    """A line a ratio, and the exit status: 1 where one is worse, missing or not committed."""
    lines: list[str] = []
    status = 0
    for name in sorted({*ratios, *committed}):
        now, before = ratios.get(name, nan), committed.get(name, nan)
        well = now >= SLACK * before  # which nothing is that could not be measured
        status = status if well else 1
        lines.append(f"{name:<42} {now:6.2f}  committed {before:6.2f}  {'ok' if well else 'WORSE'}")
    return lines, status


def stage_ratios(texts: list[str]) -> tuple[dict[str, float], float]:
    """How many times as fast as the reference module the runner is, on a worker's one thread.

    And the texts a second of the runner with 16 sentences together.
    """
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(CHECKPOINT)
    cpu = torch.device("cpu")
    rows = checkpoint.tokenizer.encode([(text, None) for text in texts])
    batches = {
        "one sentence": [PackedTokens.of([row], cpu) for row in rows],
        "16 sentences": [
            PackedTokens.of(sorted(rows[at : at + 16], key=len), cpu)
            for at in range(0, len(rows) - 15, 16)
        ],
    }
    runners = (
        ModuleRunner(checkpoint.model, torch.float32),
        runner_of(checkpoint.model, cpu),
    )
    found: dict[str, float] = {}
    runner_time = nan
    with torch.inference_mode():
        for name, packed in batches.items():
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(PASSES + 1):
                for runner, own in zip(runners, times, strict=True):
                    own.append(_full_depth_seconds(runner, packed, checkpoint.config.exits))
            module, runner_time = (statistics.median(own[1:]) for own in times)
            found[f"runner over module, {name}"] = module / runner_time
    return found, 16 * len(batches["16 sentences"]) / runner_time


def _full_depth_seconds(runner: StageRunner, batches: list[PackedTokens], stages: int) -> float:
    started = time.perf_counter()
    for packed in batches:
        hidden, pooled = runner.embed(packed), None
        for stage in range(stages):
            hidden, pooled = runner.run_layers(stage, hidden, pooled, packed.layout)
            runner.logits(stage, pooled)
    return time.perf_counter() - started


def server_ratios(texts: list[str], bare: float) -> dict[str, float]:
    """Early exits over full depth, in turn in one server: throughput of streams, latency alone.

    And its streams at full depth over `bare`, the runner's texts a second on one thread.
    Raises ServerError.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    serve = [sys.executable, "-m", "offramp.cli.main", "serve", "--address", address]
    process = subprocess.Popen([*serve, "--checkpoint", str(CHECKPOINT)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise ServerError("the server did not start; what it said is above")
        return uvloop.run(_server_ratios(address, texts, bare))
    finally:
        process.terminate()
        process.wait(STARTING)


async def _server_ratios(address: str, texts: list[str], bare: float) -> dict[str, float]:
    rates: dict[bool, list[float]] = {True: [], False: []}
    medians: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(ROUNDS):
        for early in (True, False):
            options = Options() if early else Options(threshold=1.0)
            async with OfframpTarget(address, None, options) as target:
                stream = summarize(await saturated_stream(target, texts, SECONDS, 2))
                alone = summarize(await closed_loop(target, texts, 1, SECONDS / 2))
            if errors := stream.errors | alone.errors:
                raise ServerError(f"texts were not answered: {errors}")
            rates[early].append(stream.answered_per_second)
            medians[early].append(alone.p50)
    middle = statistics.median
    return {
        "exits over full depth, streamed texts/s": middle(rates[True]) / middle(rates[False]),
        "exits over full depth, one in flight": middle(medians[False]) / middle(medians[True]),
        "streams at full depth over the bare runner": middle(rates[False]) / bare,
    }


if __name__ == "__main__":
    sys.exit(main())
