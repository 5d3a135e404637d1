"""What telemetry costs at full load: one server with it off, one with metrics on, one with all.

The servers run at once and take turns under load (A B C, B C A, …), so that whatever else the
machine does falls on all alike; the loads are the demo's sentences over one saturated stream,
and the cost of a variant is the median of its rounds' ratios to the round's run with it off.
OTLP goes to a receiver in this process, Prometheus's endpoint is scraped every second.
Writes a JSON file beside itself.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from offramp.client import Client

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / "demo"), str(ROOT / "tests")]
from collector import collecting  # noqa: E402
from run import CHECKPOINT, server  # noqa: E402

PORT = 19464


@contextmanager
def environment(values: Mapping[str, str]) -> Generator[None]:
    """These variables for the processes started within."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def texts_per_second(client: Client, texts: Sequence[str], seconds: float) -> float:
    """Answers a second over one stream that is never short of texts."""
    started = time.perf_counter()

    def endless() -> Generator[str]:
        while time.perf_counter() - started < seconds:
            yield from texts

    done = sum(1 for _ in client.classify_many(endless(), ordered=False))
    return done / (time.perf_counter() - started)


def scrape_every_second(stop: threading.Event) -> None:
    """What a Prometheus would do."""
    while not stop.wait(1.0):
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=5) as response:
            response.read()


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("throughput.json"))
    args = parser.parse_args()
    texts = (ROOT / "demo" / "sentences.txt").read_text(encoding="utf-8").splitlines()
    scrape = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1"}
    stop = threading.Event()
    with ExitStack() as stack:
        collector = stack.enter_context(collecting())
        sampled = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}
        variants: dict[str, Mapping[str, str]] = {
            "off": {},
            "metrics": scrape | {"OTEL_EXPORTER_PROMETHEUS_PORT": str(PORT)},
            "metrics, logs, 1 % of traces": sampled
            | {
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
                "OTEL_METRIC_EXPORT_INTERVAL": "1000",
                "OTEL_TRACES_SAMPLER_ARG": "0.01",
            },
        }
        clients: dict[str, Client] = {}
        for name, values in variants.items():
            with environment(values):
                address = stack.enter_context(server(CHECKPOINT))
            clients[name] = stack.enter_context(Client(address))
            texts_per_second(clients[name], texts, args.seconds)
        scraper = threading.Thread(target=scrape_every_second, args=(stop,), daemon=True)
        scraper.start()
        rounds: list[dict[str, float]] = []
        names = list(clients)
        for at in range(args.rounds):
            first = at % len(names)
            turn = names[first:] + names[:first]
            rounds.append(
                {name: texts_per_second(clients[name], texts, args.seconds) for name in turn}
            )
        stop.set()
        scraper.join()
        exports = len(collector.exports)
    result = {
        "what": "texts a second over one saturated stream, the demo's sentences",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, no GPU",
        "torch": torch.__version__,
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=ROOT
        ).stdout.strip(),
        "rounds": args.rounds,
        "otlp_exports_received": exports,
        "variants": [
            {
                "telemetry": name,
                "texts_per_second": round(statistics.median(row[name] for row in rounds), 1),
                "share_of_off": round(
                    statistics.median(row[name] / row["off"] for row in rounds), 4
                ),
                "each_round": [round(row[name] / row["off"], 4) for row in rounds],
            }
            for name in clients
        ],
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
