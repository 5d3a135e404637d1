"""`make bench`: a short suite whose ratios are compared with the committed ones.

Absolute times mean little on shared machines, so each figure is a ratio of two things measured in
turn in one run: early exits over full depth in the same server, for saturation and for latency,
and the stage runner over the reference module. A ratio worse than `SLACK` of the committed one is
told and fails the suite. `--write` makes the present ratios the committed ones.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import uvloop

from offramp.cli.load.report import circumstances, summarize
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


def main() -> int:
    """Measure, compare, tell; returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Measure ratios and compare them with the committed ones."
    )
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    texts = (ROOT / "demo" / "sentences.txt").read_text(encoding="utf-8").splitlines()
    ratios = {**stage_ratios(texts), **server_ratios(texts)}
    if args.write:
        COMMITTED.parent.mkdir(exist_ok=True)
        record = {**circumstances(), "threads": torch.get_num_threads(), "ratios": ratios}
        COMMITTED.write_text(json.dumps(record, indent=1) + "\n")
    committed = json.loads(COMMITTED.read_text())["ratios"]
    worse = [name for name, ratio in ratios.items() if ratio < SLACK * committed.get(name, 0.0)]
    for name, ratio in ratios.items():
        verdict = "WORSE" if name in worse else "ok"
        print(f"{name:<42} {ratio:6.2f}  committed {committed.get(name, 0.0):6.2f}  {verdict}")
    return 1 if worse else 0


def stage_ratios(texts: list[str]) -> dict[str, float]:
    """How many times as fast as the reference module the runner is, on a worker's one thread."""
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
    with torch.inference_mode():
        for name, packed in batches.items():
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(PASSES + 1):
                for runner, own in zip(runners, times, strict=True):
                    own.append(_full_depth_seconds(runner, packed, checkpoint.config.exits))
            module, runner_time = (statistics.median(own[1:]) for own in times)
            found[f"runner over module, {name}"] = module / runner_time
    return found


def _full_depth_seconds(runner: StageRunner, batches: list[PackedTokens], stages: int) -> float:
    started = time.perf_counter()
    for packed in batches:
        hidden, pooled = runner.embed(packed), None
        for stage in range(stages):
            hidden, pooled = runner.run_layers(stage, hidden, pooled, packed.layout)
            runner.logits(stage, pooled)
    return time.perf_counter() - started


def server_ratios(texts: list[str]) -> dict[str, float]:
    """Early exits over full depth, in turn in one server: throughput of streams, latency alone."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    serve = [sys.executable, "-m", "offramp.cli.main", "serve", "--address", address]
    process = subprocess.Popen([*serve, "--checkpoint", str(CHECKPOINT)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it serves
        return uvloop.run(_server_ratios(address, texts))
    finally:
        process.terminate()
        process.wait(STARTING)


async def _server_ratios(address: str, texts: list[str]) -> dict[str, float]:
    rates: dict[bool, list[float]] = {True: [], False: []}
    medians: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(ROUNDS):
        for early in (True, False):
            options = Options() if early else Options(threshold=1.0)
            async with OfframpTarget(address, None, options) as target:
                stream = summarize(await saturated_stream(target, texts, SECONDS, 2))
                alone = summarize(await closed_loop(target, texts, 1, SECONDS / 2))
            rates[early].append(stream.answered_per_second)
            medians[early].append(alone.p50)
    middle = statistics.median
    return {
        "exits over full depth, streamed texts/s": middle(rates[True]) / middle(rates[False]),
        "exits over full depth, one in flight": middle(medians[False]) / middle(medians[True]),
    }


if __name__ == "__main__":
    sys.exit(main())
