"""All servers in one run on the same texts and weights, by the same generator; writes the table.

    python bench/peers/compare.py --texts sst2/test.jsonl.gz --json bench/results/peers.json

Each peer gets an environment of its own beside this file, made when it is first needed. First
each server's latency with one call in flight and its saturation, ours at its default threshold
and at full depth among them, with the bare ONNX Runtime forward before and after; then the best
peer and ours at 80 % of the best peer's saturation. What cannot be installed is said, not hidden.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from offramp.cli.bench import read_texts
from offramp.cli.load.arrivals import Pattern, arrivals
from offramp.cli.load.report import circumstances, summarize, yardstick
from offramp.cli.load.run import closed_loop, open_loop
from offramp.cli.load.saturation import saturation
from offramp.cli.load.target import OfframpTarget, Target
from offramp.client import Options

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))
from catalog import GRPC, PEERS, SERVERS, Peer, environment, exported  # noqa: E402

STARTING = 90.0
OURS = (("offramp", None), ("offramp, full depth", 1.0))


@contextmanager
def started(command: Sequence[str], model: Path) -> Generator[int]:
    """A server in a process group of its own, which is given, ended with all it started."""
    process = subprocess.Popen(
        command,
        env={**os.environ, "OFFRAMP_PEER_MODEL": str(model), "PYTHONPATH": str(SERVERS)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process.pid
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(group: int) -> float:
    """CPU seconds that the processes of a group have used; 0 where /proc does not tell."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[2]) == group:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def until_answering(make: Callable[[], Target], text: str) -> None:
    """Return once a call succeeds; raises TimeoutError."""
    ends = time.monotonic() + STARTING
    while True:
        try:
            async with asyncio.timeout(5), make() as target:
                await target.classify(text)
                return
        except Exception as error:
            if time.monotonic() > ends:
                raise TimeoutError("the server never answered") from error
            await asyncio.sleep(0.3)


async def characterize(
    make: Callable[[], Target], texts: Sequence[str], seconds: float, group: int
) -> dict[str, Any]:
    """Latency with one call in flight, saturation, and CPU time an answer costs in a closed loop.

    The last says more than the others where the machine is not ours alone.
    """
    async with make() as target:
        await closed_loop(target, texts, 4, 2.0)
        alone = summarize(await closed_loop(target, texts, 1, seconds / 2))
        before = cpu_seconds(group)
        busy = await closed_loop(target, texts, 32, seconds / 2)
        cost = (cpu_seconds(group) - before) * 1e3 / max(1, len(busy))
        found = await saturation(target, texts, seconds)
    return {"cpu_ms_per_answer": cost, "one_in_flight": asdict(alone), "saturation": asdict(found)}


async def at_rate(
    make: Callable[[], Target], texts: Sequence[str], rate: float, seconds: float
) -> dict[str, Any]:
    """Poisson and bursty arrivals at a rate."""
    found: dict[str, Any] = {"rate": rate}
    async with make() as target:
        await closed_loop(target, texts, 4, 1.0)
        for pattern in Pattern:
            due = arrivals(pattern, rate, seconds, seed=7)
            found[pattern.value] = asdict(summarize(await open_loop(target, texts, due)))
    return found


def bare_forward(model: Path, texts: Path) -> dict[str, float]:
    """ONNX Runtime without a server."""
    bin_ = environment("grpc", GRPC)
    done = subprocess.run(
        [str(bin_ / "python"), str(SERVERS / "forward.py"), str(texts)],
        env={**os.environ, "OFFRAMP_PEER_MODEL": str(model)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


class Comparison:
    """One run over all servers."""

    def __init__(self, checkpoint: Path, texts: Sequence[str], seconds: float) -> None:
        self.checkpoint, self.texts, self.seconds = checkpoint, texts, seconds
        self.model = exported(checkpoint)
        self.texts_file = self.model / "texts.json"
        self.texts_file.write_text(json.dumps(texts[:300]))

    @contextmanager
    def ours(self) -> Generator[tuple[str, int]]:
        """Our server; gives its address and process group."""
        port = free_port()
        address = f"127.0.0.1:{port}"
        serve = [sys.executable, "-m", "offramp.cli.main", "serve", "--address", address]
        with started([*serve, "--checkpoint", str(self.checkpoint)], self.model) as group:
            uvloop.run(until_answering(lambda: self.our_target(address, None), self.texts[0]))
            yield address, group

    def our_target(self, address: str, threshold: float | None) -> Target:
        """Our server at a threshold, or at its default."""
        options = Options() if threshold is None else Options(threshold=threshold)
        return OfframpTarget(address, 60.0, options)

    def measure_ours(self) -> dict[str, Any]:
        """Default threshold and full depth, in turn."""
        with self.ours() as (address, group):
            return {
                name: uvloop.run(
                    characterize(
                        partial(self.our_target, address, threshold),
                        self.texts,
                        self.seconds,
                        group,
                    )
                )
                for name, threshold in OURS
            }

    def measure_peer(self, peer: Peer, rate: float | None) -> dict[str, Any]:
        """A peer's figures, or at a rate; what went wrong is told in their place."""
        try:
            bin_ = environment(peer.environment, peer.packages)
        except subprocess.CalledProcessError as error:
            return {"failed": f"cannot be installed: {error}"}
        port = free_port()
        address = f"127.0.0.1:{port}"
        with started(peer.command(bin_, port), self.model) as group:
            try:
                uvloop.run(until_answering(lambda: peer.target(address), self.texts[0]))
            except TimeoutError as error:
                return {"failed": str(error)}
            run = (
                characterize(lambda: peer.target(address), self.texts, self.seconds, group)
                if rate is None
                else at_rate(lambda: peer.target(address), self.texts, rate, self.seconds)
            )
            return uvloop.run(run)


def mixed(paths: Sequence[Path]) -> list[str]:
    """Texts of all files in equal parts, in a random order that is always the same."""
    parts = [read_texts(path) for path in paths]
    draw = random.Random(0)
    fewest = min(map(len, parts))
    texts = [text for part in parts for text in draw.sample(part, fewest)]
    draw.shuffle(texts)
    return texts


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(
        description="Measure all servers in one run and write the table."
    )
    parser.add_argument("--texts", type=Path, nargs="+", required=True, help="several are mixed")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "sst2-minilm")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each probe")
    parser.add_argument("--install-only", action="store_true")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    if args.install_only:
        for name in args.peers:
            environment(PEERS[name].environment, PEERS[name].packages)
        return
    run = Comparison(args.checkpoint, mixed(args.texts), args.seconds)
    record: dict[str, Any] = {
        **circumstances(),
        "texts": [path.name for path in args.texts],
        "seconds": args.seconds,
        "yardstick_gflops": [yardstick()],
        "bare_forward": [bare_forward(run.model, run.texts_file)],
        "servers": {},
    }
    servers: dict[str, Any] = record["servers"]
    servers.update(run.measure_ours())
    for name in args.peers:
        servers[name] = run.measure_peer(PEERS[name], None)
        print(name, _rate(servers[name]), flush=True)
    best = max(args.peers, key=lambda name: _rate(servers[name]))
    rate = 0.8 * _rate(servers[best])
    servers[best]["at_80_percent"] = run.measure_peer(PEERS[best], rate)
    with run.ours() as (address, _):
        for name, threshold in OURS:
            servers[name]["at_80_percent"] = uvloop.run(
                at_rate(partial(run.our_target, address, threshold), run.texts, rate, args.seconds)
            )
    record["best_peer"] = best
    record["bare_forward"].append(bare_forward(run.model, run.texts_file))
    record["yardstick_gflops"].append(yardstick())
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(record, indent=1) + "\n")
    print(table(record))


def _rate(figures: dict[str, Any]) -> float:
    return float(figures["saturation"]["rate"]) if "saturation" in figures else 0.0


def table(record: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| server | one in flight, p50 ms | CPU ms an answer | saturation, texts/s "
        "| p99 ms at 80 %, Poisson | bursty |",
        "|---|---|---|---|---|---|",
    ]
    for name, figures in record["servers"].items():
        if "failed" in figures:
            lines.append(f"| {name} | {figures['failed']} | | | | |")
            continue
        loaded = figures.get("at_80_percent", {})
        tails = [f"{loaded[p]['p99']:.0f}" if p in loaded else "" for p in ("poisson", "bursty")]
        lines.append(
            f"| {name} | {figures['one_in_flight']['p50']:.2f} "
            f"| {figures['cpu_ms_per_answer']:.1f} | {_rate(figures):.0f} "
            f"| {tails[0]} | {tails[1]} |"
        )
    bare = ", ".join(f"{found['p50_ms']:.2f}" for found in record["bare_forward"])
    lines.append(f"| *no server:* ONNX Runtime, one sentence | {bare} | | | | |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
