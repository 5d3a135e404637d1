"""What is measured of one server: its settings tried, its latency and saturation, its tail."""

import gc
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from catalog import Peer, Setting
from environments import BARE, BUILD, SERVERS, environment
from process import Server, StartError, others_busy, started, until_answering

from offramp.cli.load.arrivals import Pattern, arrivals
from offramp.cli.load.circumstances import circumstances, yardstick
from offramp.cli.load.report import summarize
from offramp.cli.load.run import closed_loop, open_loop
from offramp.cli.load.saturation import saturation
from offramp.cli.load.target import OfframpTarget, Target
from offramp.client import Options

IN_FLIGHT = 32
WARM, TRIED, ALONE, TAIL = 1.0, 3.0, 30.0, 20.0
"""Seconds of warming up, of a setting's trial, of one call in flight at most, and of a tail."""

ONE_BY_ONE = 300
"""Texts of one call in flight: the same for every server and for the bare forward."""

CHECKED, AGREEMENT = 50, 0.98
"""Texts whose labels are compared with our full depth's, and the share that must be the same."""

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """A server to start and how it is called."""

    command: Callable[[int], Sequence[str]]
    target: Callable[[str], Target[str]]
    told: dict[str, object]


def ours(checkpoint: Path, threshold: float | None, *, half: bool) -> Subject:
    """Our server as it comes or in bfloat16, called at a threshold or at its default."""
    serve = [sys.executable, "-m", "offramp.cli.main", "serve", "--checkpoint", str(checkpoint)]
    serve += ["--precision", "bfloat16"] if half else []
    options = Options() if threshold is None else Options(threshold=threshold)
    return Subject(
        lambda port: [*serve, "--address", f"127.0.0.1:{port}"],
        lambda address: OfframpTarget(address, 60.0, options),
        {},
    )


def theirs(name: str, peer: Peer, setting: Setting, model: Path) -> Subject:
    """A peer at a setting; raises InstallError."""
    bin_ = environment(name.lower().replace(" ", "-"), peer.packages)
    told: dict[str, object] = {"model": model, **asdict(setting)}
    return Subject(partial(peer.command, bin_), peer.target, told)


def bare_forward(model: Path, texts: Path) -> dict[str, float]:
    """ONNX Runtime without a server, all threads."""
    python = environment("bare", BARE) / "python"
    forward = [str(python), str(SERVERS / "forward.py"), str(model), str(texts), "--threads", "2"]
    done = subprocess.run(forward, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


@dataclass(frozen=True, slots=True)
class Bench:
    """The texts, their labels at full depth, the exported model, and the probes of a saturation."""

    texts: Sequence[str]
    labels: Sequence[str]
    model: Path
    steps: int

    def tried(self, subject: Subject) -> Figures:
        """Answers a second in a short closed loop, and whether they are right."""
        return self._run(subject, self._tried)

    def served(self, subject: Subject, seconds: float) -> Figures:
        """Latency alone, CPU time of an answer, saturation by probes of so many seconds."""
        told = {"seconds": seconds, "steps": self.steps}
        return self._circumstances() | told | self._run(subject, partial(self._served, seconds))

    def tail(self, subject: Subject, rate: float, seed: int) -> Figures:
        """Latencies at a rate, Poisson and bursty; arrivals are the same at the same seed."""
        return self._circumstances() | self._run(subject, partial(self._tail, rate, seed))

    def _circumstances(self) -> Figures:
        seen = circumstances()
        file = BUILD / "texts.json"
        file.write_text(json.dumps(self.texts[:ONE_BY_ONE]))
        return {
            "time": seen["time"],
            "commit": seen["commit"],
            "others_busy": others_busy(),
            "yardstick_gflops": yardstick(),
            "bare_forward": bare_forward(self.model, file),
        }

    def _run(self, subject: Subject, measure: Callable[[Server, Target[str]], Any]) -> Figures:
        log = BUILD / "server.log"
        gc.collect()
        gc.freeze()  # a collection of all that is loaded would hold the generator for .1 s
        with started(subject.command, subject.told, log) as server:
            make = partial(subject.target, server.address)
            try:
                uvloop.run(until_answering(make, self.texts[0], log))
            except StartError as error:
                return {"failed": str(error)}

            async def run() -> Figures:
                async with make() as target:
                    await closed_loop(target, self.texts, 4, WARM)
                    found: Figures = await measure(server, target)
                    return found

            return uvloop.run(run())

    async def _tried(self, _: Server, target: Target[str]) -> Figures:
        asked = zip(self.texts, self.labels, strict=False)
        agreed = statistics.fmean(
            [(await target.classify(text)).label == label for text, label in asked]
        )
        if agreed < AGREEMENT:
            return {"failed": f"only {agreed:.0%} of its labels are full depth's"}
        busy = await closed_loop(target, self.texts, IN_FLIGHT, TRIED)
        return {
            "answered_per_second": summarize(busy).answered_per_second,
            "agreement": agreed,
        }

    async def _served(self, seconds: float, server: Server, target: Target[str]) -> Figures:
        alone = summarize(await closed_loop(target, self.texts, 1, ALONE, ONE_BY_ONE))
        before = server.cpu_seconds()
        busy = await closed_loop(target, self.texts, IN_FLIGHT, TRIED)
        spent = (server.cpu_seconds() - before) * 1e3
        found = await saturation(target, self.texts, seconds, self.steps)
        return {
            "one_in_flight": alone.to_dict(),
            "cpu_ms_per_answer": spent / max(1, summarize(busy).answered),
            "saturation": asdict(found),
        }

    async def _tail(self, rate: float, seed: int, _: Server, target: Target[str]) -> Figures:
        found: Figures = {"rate": rate, "seed": seed}
        for pattern in Pattern:
            due = arrivals(pattern, rate, TAIL, seed)
            found[pattern.value] = summarize(await open_loop(target, self.texts, due)).to_dict()
        return found
