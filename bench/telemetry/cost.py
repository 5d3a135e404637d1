"""What telemetry costs at full load: the same server with it off and on, CPU time and throughput.

    python bench/telemetry/cost.py real      the shipped checkpoint, saturated
    python bench/telemetry/cost.py instant   a model that costs nothing: microseconds of a request;
                                             and, as no operator should, every trace of every call

All servers share one process and its model (variants.py) and take short turns under load, each
round in another order. A round's ratio is to its own turn with telemetry off; a second server with
telemetry off shows what the method sees where there is nothing to see. The CPU seconds of the
process per answer are the sharp figure; throughput depends on where the load generator, which
shares the machine, happens to run. Medians over the rounds, with bootstrapped intervals of 95 %.
What a scrape or an export costs, which comes by the clock and not by the request, is read from
servers that have nothing else to do. Writes a JSON file beside itself.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import uvloop
from variants import ROOT, Server, running

sys.path.append(str(ROOT / "tests"))
from callers import (
    CLASSIFY,
    INPUTS_PER_MESSAGE,
    stream_messages,
    stream_rate,
    unary_messages,
    unary_rate,
)
from collector import collecting

OFF = "off"
RESAMPLES = 2000
MODES = ("unary", "stream")
"""Calls of one text each, or one stream."""
COLLECTIONS = 10
PORT = 19464
SCRAPES = {
    "OTEL_METRICS_EXPORTER": "prometheus",
    "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
    "OTEL_EXPORTER_PROMETHEUS_PORT": str(PORT),
}
SCRAPED = "metrics, to be scraped"


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


def variants(kind: str, endpoint: str) -> dict[str, Mapping[str, str]]:
    """Telemetry by the variables of the environment that ask for it."""
    found: dict[str, Mapping[str, str]] = {
        OFF: {},
        "off, a second server": {},
        SCRAPED: SCRAPES,
        "metrics, logs, 1 % of traces, over OTLP": exported(endpoint, 60.0, 0.01),
    }
    if kind == "instant":
        found["metrics, logs, every trace, over OTLP"] = exported(endpoint, 60.0, 1.0)
    return found


def exported(endpoint: str, every: float, share: float) -> Mapping[str, str]:
    """Metrics every so many seconds, logs, and this share of traces, over OTLP."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_METRIC_EXPORT_INTERVAL": str(int(every * 1e3)),
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": str(share),
    }


async def collections(
    kind: str, endpoint: str, mode: str, texts: Sequence[str]
) -> dict[str, float]:
    """CPU milliseconds of one scrape and of one export of all metrics, by servers at rest."""

    def scrape() -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=30) as response:
            response.read()

    found = {OFF: {}, "scrape": SCRAPES, "export": exported(endpoint, 1.0, 0.0)}
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for name, environment in found.items():
            servers |= stack.enter_context(running(kind, {name: environment}))
        for server in servers.values():  # so that there is something to tell
            await under_load(server, mode, texts, 1.0)
        before = {name: server.cpu_seconds() for name, server in servers.items()}
        for _ in range(COLLECTIONS):
            await asyncio.sleep(1.0)
            await asyncio.to_thread(scrape)
        spent = {name: server.cpu_seconds() - before[name] for name, server in servers.items()}
    return {
        name: round(1e3 * (spent[name] - spent[OFF]) / COLLECTIONS, 2)
        for name in ("scrape", "export")
    }


async def under_load(server: Server, mode: str, texts: Sequence[str], seconds: float) -> Turn:
    """Load a server for so long with unary calls of one text each or with one stream."""
    before, started = server.cpu_seconds(), time.perf_counter()
    if mode == "unary":
        rate = await unary_rate(server.address, CLASSIFY, unary_messages(texts), seconds)
        answers = rate * seconds
        wall = time.perf_counter() - started
    else:
        rate = await stream_rate(server.address, stream_messages(texts), seconds)
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

    def more(chosen: Sequence[Round]) -> float:
        return statistics.median(1e6 * (one[name].cost - one[OFF].cost) for one in chosen)

    return {
        "telemetry": name,
        "answers_per_second": round(statistics.median(one[name].rate for one in rounds), 1),
        "cpu_us_per_answer": round(statistics.median(one[name].cost for one in rounds) * 1e6, 1),
        "cpu_us_per_answer_more": interval(rounds, more),
        "cpu_ratio": interval(rounds, median_ratio("cost")),
        "throughput_ratio": interval(rounds, median_ratio("rate")),
    }


async def measure(kind: str, texts: Sequence[str], rounds: int, seconds: float) -> dict[str, Any]:
    """Let the servers take turns, and report each mode's variants."""
    found = {mode: list[Round]() for mode in MODES}
    with collecting() as collector:
        environments = variants(kind, collector.endpoint)
        with running(kind, environments) as servers:
            for at in range(rounds + 1):
                for mode in MODES:
                    names = random.sample(list(servers), len(servers))
                    turns = {n: await under_load(servers[n], mode, texts, seconds) for n in names}
                    if at:  # the first round warms up
                        found[mode].append(turns)
        collected = await collections(kind, collector.endpoint, MODES[-1], texts)
        exports, spans = len(collector.exports), len(collector.spans)
    return {
        "rounds": rounds,
        "cpu_ms_of_one": collected,
        "otlp_exports_received": exports,
        "otlp_spans_received": spans,
        **{mode: [report(found[mode], name) for name in environments] for mode in MODES},
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description="What telemetry costs at full load.")
    parser.add_argument("kind", choices=["real", "instant"])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=1.0)
    args = parser.parse_args()
    texts = (ROOT / "demo" / "sentences.txt").read_text(encoding="utf-8").splitlines()
    texts = texts * (1 + 2 * INPUTS_PER_MESSAGE // len(texts))
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    result = {
        "what": f"{args.kind} model, the demo's sentences",
        "turn_seconds": args.seconds,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, no GPU",
        "torch": torch.__version__,
        "commit": commit.stdout.strip(),
        **uvloop.run(measure(args.kind, texts, args.rounds, args.seconds)),
    }
    text = json.dumps(result, indent=1) + "\n"
    Path(__file__).with_name(f"{args.kind}.json").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
