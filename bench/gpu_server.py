"""The whole server on one card: calls, streams, two swaps and the end, all under load.

    python bench/gpu_server.py --texts FILE --json OUT [--processes 1 6 --device cpu --seconds 2]

Starts `offramp serve` and, against it, `offramp bench`, in processes of their own and from this
checkout: of ours nothing need be installed. One generator looks for the rate that is sustained; on
many cores several at once say what more the server can do. Under a third of that rate the server
swaps twice (SIGHUP) and ends (SIGTERM). All this for every number of `--processes`, with the cores
that they leave to generators. If something is `wrong` or in a `log`, the status is 1.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from subprocess import PIPE
from typing import Any

ROOT = Path(__file__).parents[1]
ROOTS = [str(ROOT / part) for part in ("protos", "scheduler", "model", "server", "client", "cli")]
sys.path[:0] = ROOTS

from offramp.cli.load.arrivals import Pattern, arrivals  # noqa: E402
from offramp.cli.load.circumstances import circumstances  # noqa: E402
from offramp.cli.load.inputs import read_texts  # noqa: E402
from offramp.cli.load.report import summarize  # noqa: E402
from offramp.cli.load.run import Sample, open_loop  # noqa: E402
from offramp.cli.load.target import InTurn, OfframpTarget  # noqa: E402
from offramp.client import Options  # noqa: E402

Record = dict[str, Any]
CORES = os.cpu_count() or 1
CONNECTIONS = 8
"""Of a generator, to several processes."""

LOADS = {
    "calls": ("--in-flight", 64),
    "streams": ("--stream", "--saturate", "--streams", CONNECTIONS),
}

STARTING, PATIENCE = 180.0, 60
"""Seconds until the server must serve, and in which all else must end."""

ON_ITS_WAY = 0.1
"""What was sent so many seconds before SIGTERM was accepted for sure, later calls perhaps."""

GENERATE = """
import sys
sys.modules["torch"] = None
from offramp.cli import bench
print("ready", flush=True)
sys.stdin.readline()
sys.exit(bench.main(sys.argv[1:]))
"""
"""`offramp bench`, loaded but not begun until it is told to: rates of several at once are added up.
Without torch, which takes seconds to load and would time its yardstick alone."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, the file that it logs JSON lines to, and what it serves."""

    process: subprocess.Popen[str]
    address: str
    log: Path
    checkpoint: Path
    processes: int

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all its processes."""
        clocks = [(~int(line["process"]) << 3) | 2 for line in self.lines("offramp.start")]
        return sum(map(time.clock_gettime, clocks))  # Linux's clocks of other processes

    def swap(self) -> None:
        """Tell it to read its checkpoint again, which has another digest by then."""
        with (self.checkpoint / "exits.json").open("a") as file:
            file.write("\n")
        self.process.send_signal(signal.SIGHUP)

    def lines(self, event: str | None = None) -> list[Record]:
        """What it has logged, of one event or all; what is not JSON has a message alone."""
        rows = self.log.read_text(errors="replace").splitlines()
        told = [json.loads(row) if row[:1] + row[-1:] == "{}" else {"message": row} for row in rows]
        return [line for line in told if event in (None, line.get("event"))]


def serve(checkpoint: Path, device: str, log: Path, processes: int) -> Server:
    """A server that is ready; exits with what it logged if it never is."""
    command = [sys.executable, "-m", "offramp.cli.main", "serve", "--address", "127.0.0.1:0"]
    command += ["--log-format", "json", "--device", device, "--checkpoint", str(checkpoint)]
    command += ["--processes", str(processes)]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True)
    late = threading.Timer(STARTING, process.kill)
    late.start()
    line = process.stdout.readline() if process.stdout else ""
    late.cancel()
    if " serves on " not in line:
        process.kill()
        sys.exit(f"the server did not start, status {process.wait()}:\n{log.read_text()}")
    return Server(process, line.split()[-1], log, checkpoint, processes)


def bench(server: Server, texts: Path, seconds: float, *options: object, many: int = 1) -> Record:
    """What `offramp bench` finds, or many of it at once; one that fails or hangs is left out."""
    given = ("--address", server.address, "--texts", texts, "--seconds", seconds, *options)
    if server.processes > 1:
        given += ("--connections", CONNECTIONS)
    outs = [server.log.with_name(f"{time.monotonic_ns()}-{number}.json") for number in range(many)]
    command = [sys.executable, "-c", GENERATE, *map(str, given), "--json"]
    print(*options, flush=True)
    with ExitStack() as stack:
        generators = [
            stack.enter_context(
                subprocess.Popen([*command, str(out)], stdin=PIPE, stdout=PIPE, text=True)
            )
            for out in outs
        ]
        for generator in generators:
            assert generator.stdout
            generator.stdout.readline()
        worked = server.cpu_seconds
        ends = time.monotonic() + PATIENCE
        for generator in generators:
            assert generator.stdin
            generator.stdin.write("go\n")
            generator.stdin.flush()
        for generator in generators:
            try:
                generator.communicate(timeout=max(0.0, ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                generator.kill()
    runs = [Record(json.loads(out.read_text())) for out in outs if out.exists()]
    return {
        "answered_per_second": sum(run["summary"]["answered_per_second"] for run in runs),
        "server_cpu_s": server.cpu_seconds - worked,
        "runs": [{name: run[name] for name in ("summary", "saturation")} for run in runs],
    }


def rates(server: Server, texts: Path, seconds: float, many: int, found: Record) -> float:
    """How quick it is, alone and loaded by `many` at once; returns calls a second it sustains."""
    alone = server.processes == 1
    if alone:
        found["one in flight"] = bench(server, texts, seconds / 2, "--in-flight", 1)
    for name, depth in (("early exits", ()), ("full depth", ("--threshold", 1))):
        found[f"{name}, sustained"] = bench(server, texts, seconds / 4, "--saturate", *depth)
        for kind, load in LOADS.items():
            found[f"{name}, {kind}"] = bench(server, texts, seconds, *load, *depth, many=many)
    search = found["early exits, sustained"]["runs"][0]["saturation"]
    rate: float = search["rate"] or search["closed_loop"] / 2
    found["half"] = bench(server, texts, seconds, "--rate", rate / 2)
    return rate


async def ends(server: Server, texts: list[str], rate: float) -> Record:
    """Swap twice, then end the server, while calls go on."""
    calm, swapping, ending = list[Sample](), list[Sample](), list[Sample]()
    connections = CONNECTIONS if server.processes > 1 else 1
    one = (server.address, PATIENCE, Options())
    async with InTurn(OfframpTarget(*one) for _ in range(connections)) as target:

        async def load(samples: list[Sample], seconds: float = 1.0) -> None:
            due = arrivals(Pattern.POISSON, rate, seconds, seed=len(samples))
            samples += await open_loop(target, texts, due)

        await load([])  # which connects
        await load(calm)
        for swaps in (1, 2):
            server.swap()
            for _ in range(PATIENCE):
                await load(swapping)
                if len(server.lines("offramp.swap")) == swaps * server.processes:
                    break
            await load(swapping)  # while the old one goes
        running, started = asyncio.create_task(load(ending, 2.0)), time.perf_counter()
        await asyncio.sleep(1.0)
        signalled = time.perf_counter() - started
        server.process.terminate()
        status = await asyncio.to_thread(server.process.wait, PATIENCE)
        took = time.perf_counter() - started - signalled
        await running
    before = [sample for sample in ending if sample.sent < signalled - ON_ITS_WAY]
    after = [sample for sample in ending if sample.sent >= signalled - ON_ITS_WAY]
    parts = {"calm": calm, "swapping": swapping, "before sigterm": before, "at sigterm": after}
    told = {name: summarize(samples).to_dict() for name, samples in parts.items()}
    kept = ("messages", "answered", "errors", "p50", "p99", "longest")
    found: Record = {name: {key: one[key] for key in kept} for name, one in told.items()}
    found |= {"rate": rate, "swaps": server.lines("offramp.swap"), "drain_s": took}
    holds = {
        "both swaps succeed": [one["outcome"] for one in found["swaps"]]
        == ["swapped"] * 2 * server.processes,
        "no call fails": not (found["swapping"]["errors"] or found["before sigterm"]["errors"]),
        "the server's status is 0": status == 0,
    }
    return {**found, "wrong": [name for name, held in holds.items() if not held]}


def main() -> int:
    """Measure and write; returns the exit status."""
    parser = argparse.ArgumentParser(description="Measure the whole server on one device.")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "sst2-minilm")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--processes", type=int, nargs="+", default=[1])
    parser.add_argument("--generators", type=int, help="at once, where one is not enough")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    record = Record(circumstances()) | {name: version(name) for name in ("triton", "uvloop")}
    card = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    record["device"] = "cpu" if args.device == "cpu" else subprocess.check_output(card, text=True)
    well = True
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "offramp-0.dist-info").mkdir()
        Path(folder, "offramp-0.dist-info", "METADATA").write_text("Name: offramp\nVersion: 0\n")
        os.environ["PYTHONPATH"] = ":".join([*ROOTS, folder, os.environ.get("PYTHONPATH", "")])
        checkpoint = Path(shutil.copytree(args.checkpoint, Path(folder, args.checkpoint.name)))
        for count in args.processes:
            found = record[f"processes: {count}"] = Record()
            started = time.monotonic()
            server = serve(checkpoint, args.device, Path(folder, f"log-{count}"), count)
            found["seconds_until_ready"] = time.monotonic() - started
            try:
                many = args.generators or max(1, CORES - count if count > 1 else min(4, CORES // 4))
                rate = rates(server, args.texts, args.seconds, many, found)
                found["ends"] = asyncio.run(ends(server, read_texts(args.texts), rate / 3))
            finally:
                server.process.kill()
                found["log"] = [one for one in server.lines() if one.get("level") != "INFO"]
                args.json.write_text(json.dumps(record, indent=1) + "\n")
            well = well and not (found["ends"]["wrong"] or found["log"])
            print(json.dumps(found, indent=1))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
