"""What telemetry costs at full load: the same server with it off and on, CPU time and throughput.

    python bench/telemetry/cost.py real      the shipped checkpoint, one saturated stream
    python bench/telemetry/cost.py instant   a model that costs nothing: microseconds of a request;
                                             and, as no operator should, every trace of every call

All servers run at once and take short turns under load, each round in another order, so that
whatever else the machine does falls on all alike. A round's ratio is to the round's own turn with
telemetry off. The CPU seconds of the server's process per answer are the sharp figure; throughput
depends on where the load generator, which shares the machine, happens to run. Scrapes and exports
come at the intervals that operators use, and fall into some rounds only; so besides the median of
the ratios, which sees what every request costs, the ratio of the sums is given, which sees all.
Intervals are bootstrapped over the rounds, 95 %. Writes a JSON file beside itself.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import uvloop
from variants import ROOT, Server, running

sys.path.append(str(ROOT / "tests"))
from collector import collecting
from overhead import CLASSIFY, INPUTS_PER_MESSAGE, stream_rate, unary_rate

from offramp.v1 import classification_pb2 as pb
from offramp.v1 import classifier_service_pb2 as service_pb

OFF = "off"
RESAMPLES = 2000
PORT = 19464


@dataclass(frozen=True, slots=True)
class Variant:
    """A server's telemetry: its variables, and seconds between scrapes of its port, if any."""

    environment: Mapping[str, str]
    port: int = 0
    scraped_every: float = 0.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What a server did in one turn under load."""

    answers: float
    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.wall

    @property
    def cost(self) -> float:
        """CPU seconds an answer."""
        return self.cpu / self.answers


Round = Mapping[str, Turn]


def variants(kind: str, endpoint: str) -> dict[str, Variant]:
    """Telemetry as operators configure it, and with a scrape or an export every second."""

    def scraped(port: int, every: float) -> Variant:
        exporter = {
            "OTEL_METRICS_EXPORTER": "prometheus",
            "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
        }
        return Variant(exporter, port, every)

    def exported(milliseconds: int, share: float) -> Variant:
        return Variant(
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
                "OTEL_METRIC_EXPORT_INTERVAL": str(milliseconds),
                "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": str(share),
            }
        )

    found = {
        OFF: Variant({}),
        "metrics, scraped every 15 s": scraped(PORT, 15.0),
        "metrics every 60 s, logs, 1 % of traces, over OTLP": exported(60_000, 0.01),
        "metrics, scraped every second": scraped(PORT + 1, 1.0),
    }
    if kind == "instant":
        found["metrics every 60 s, logs, every trace, over OTLP"] = exported(60_000, 1.0)
    return found


@contextmanager
def scraping(variant: Variant) -> Generator[None]:
    """What a Prometheus would do."""
    stop = threading.Event()

    def scrape() -> None:
        url = f"http://127.0.0.1:{variant.port}/metrics"
        while not stop.wait(variant.scraped_every):
            with urllib.request.urlopen(url, timeout=30) as response:
                response.read()

    thread = threading.Thread(target=scrape, daemon=True)
    if variant.port:
        thread.start()
    yield
    stop.set()


async def under_load(server: Server, mode: str, texts: Sequence[str], seconds: float) -> Turn:
    """Load a server for so long with unary calls of one text each or with one stream."""
    before, started = server.cpu_seconds(), time.perf_counter()
    if mode == "unary":
        calls = [
            service_pb.ClassifyTextRequest(inputs=[pb.TextInput(text=text)]).SerializeToString()
            for text in texts
        ]
        rate = await unary_rate(server.address, CLASSIFY, calls, seconds)
        answers = rate * seconds
        wall = time.perf_counter() - started
    else:
        inputs = [pb.TextInput(text=text) for text in texts]
        messages = [
            service_pb.StreamClassifyTextRequest(
                inputs=[
                    service_pb.CorrelatedInput(correlation_id=str(i), input=one)
                    for i, one in enumerate(inputs[at : at + INPUTS_PER_MESSAGE])
                ]
            ).SerializeToString()
            for at in range(0, len(inputs) - INPUTS_PER_MESSAGE + 1, INPUTS_PER_MESSAGE)
        ]
        rate = await stream_rate(server.address, messages, seconds)
        wall = time.perf_counter() - started
        answers = rate * wall
    return Turn(answers, wall, server.cpu_seconds() - before)


def interval(
    rounds: Sequence[Round], figure: Callable[[Sequence[Round]], float]
) -> dict[str, float | list[float]]:
    """A figure of the rounds and its bootstrapped 95 % interval."""
    draw = random.Random(0)
    found = sorted(figure(draw.choices(rounds, k=len(rounds))) for _ in range(RESAMPLES))
    ends = [round(found[int(RESAMPLES * q)], 4) for q in (0.025, 0.975)]
    return {"value": round(figure(rounds), 4), "interval": ends}


def report(rounds: Sequence[Round], name: str) -> dict[str, Any]:
    """A variant beside telemetry off."""

    def median_ratio(attribute: str) -> Callable[[Sequence[Round]], float]:
        return lambda chosen: statistics.median(
            getattr(one[name], attribute) / getattr(one[OFF], attribute) for one in chosen
        )

    def cpu_of_sums(chosen: Sequence[Round]) -> float:
        def cost(which: str) -> float:
            return sum(r[which].cpu for r in chosen) / sum(r[which].answers for r in chosen)

        return cost(name) / cost(OFF)

    extra = [(one[name].cost - one[OFF].cost) * 1e6 for one in rounds]
    return {
        "telemetry": name,
        "answers_per_second": round(statistics.median(one[name].rate for one in rounds), 1),
        "cpu_us_per_answer": round(statistics.median(one[name].cost for one in rounds) * 1e6, 1),
        "cpu_us_per_answer_more": round(statistics.median(extra), 1),
        "cpu_ratio_median": interval(rounds, median_ratio("cost")),
        "cpu_ratio_of_sums": interval(rounds, cpu_of_sums),
        "throughput_ratio_median": interval(rounds, median_ratio("rate")),
    }


async def measure(
    kind: str, modes: Sequence[str], texts: Sequence[str], minutes: float, seconds: float
) -> dict[str, Any]:
    """Start the servers, let them take turns, and report each mode's variants."""
    ends = time.monotonic() + minutes * 60
    with ExitStack() as stack:
        collector = stack.enter_context(collecting())
        servers: dict[str, Server] = {}
        for name, variant in variants(kind, collector.endpoint).items():
            servers[name] = stack.enter_context(running(kind, variant.environment))
            stack.enter_context(scraping(variant))
            for mode in modes:
                await under_load(servers[name], mode, texts, seconds)
        found = {mode: list[Round]() for mode in modes}
        draw = random.Random(0)
        while time.monotonic() < ends:
            order = draw.sample(list(servers), len(servers))
            for mode in modes:
                turns = {n: await under_load(servers[n], mode, texts, seconds) for n in order}
                found[mode].append(turns)
        exports, spans = len(collector.exports), len(collector.spans)
    return {
        "rounds": len(found[modes[0]]),
        "otlp_exports_received": exports,
        "otlp_spans_received": spans,
        **{mode: [report(found[mode], name) for name in servers] for mode in modes},
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description="What telemetry costs at full load.")
    parser.add_argument("kind", choices=["real", "instant"])
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    texts = (ROOT / "demo" / "sentences.txt").read_text(encoding="utf-8").splitlines()
    texts = texts * (1 + 2 * INPUTS_PER_MESSAGE // len(texts))
    modes = ["stream"] if args.kind == "real" else ["unary", "stream"]
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    result = {
        "what": f"{args.kind} model, the demo's sentences, turns of {args.seconds} s",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, no GPU",
        "torch": torch.__version__,
        "commit": commit.stdout.strip(),
        **uvloop.run(measure(args.kind, modes, texts, args.minutes, args.seconds)),
    }
    text = json.dumps(result, indent=1) + "\n"
    Path(__file__).with_name(f"{args.kind}.json").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
