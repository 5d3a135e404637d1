"""Early exits against full depth in the same server, in turn: A B A B.

Saturation over one stream and the latency of one request in flight, on the demo's sentences.
Prints JSON with what it was measured on.
"""

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from offramp.client import Client

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "demo"))
from run import CHECKPOINT, server  # noqa: E402

ROUNDS = 3
REPEATS = 10


def saturation(client: Client, texts: Sequence[str], threshold: float) -> float:
    """Texts a second over one stream that is never short of texts."""
    work = list(texts) * REPEATS
    started = time.perf_counter()
    done = sum(1 for _ in client.classify_many(work, ordered=False, threshold=threshold))
    return done / (time.perf_counter() - started)


def latency(client: Client, texts: Sequence[str], threshold: float) -> float:
    """Median milliseconds with one request in flight."""
    times: list[float] = []
    for text in texts:
        started = time.perf_counter()
        client.classify(text, threshold=threshold)
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


def main() -> None:
    """Measure both in turn and print the medians."""
    texts = (ROOT / "demo" / "sentences.txt").read_text(encoding="utf-8").splitlines()
    with server(CHECKPOINT) as address, Client(address) as client:
        default = client.get_model().default_threshold
        figures: dict[float, list[tuple[float, float]]] = {default: [], 1.0: []}
        for _ in range(ROUNDS):
            for threshold, rows in figures.items():
                row = (saturation(client, texts, threshold), latency(client, texts, threshold))
                rows.append(row)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    result = {
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": commit.stdout.strip(),
        "results": [
            {
                "threshold": threshold,
                "texts_per_second": round(statistics.median(row[0] for row in rows), 1),
                "p50_ms": round(statistics.median(row[1] for row in rows), 2),
            }
            for threshold, rows in figures.items()
        ],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
