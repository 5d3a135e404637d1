"""The demo: a real server with the shipped checkpoint, a real client, and what early exits save.

Every sentence is classified on its own, one after the other, first at the default threshold and
then at full depth, so that its latency is its own.
"""

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from offramp.cli.table import answers_table, console, depth_bar
from offramp.client import Answer, Client

HERE = Path(__file__).parent
CHECKPOINT = HERE.parent / "checkpoints" / "sst2-minilm"
WARM_UP_CALLS = 20
STARTING = 60.0


@dataclass(frozen=True, slots=True)
class Run:
    """The answers to all sentences and the milliseconds that each took at the client."""

    answers: Sequence[Answer]
    milliseconds: Sequence[float]

    @property
    def mean_layers(self) -> float:
        """Layers run on average."""
        return statistics.fmean(answer.layer for answer in self.answers)

    def percentile(self, percent: int) -> float:
        """This percentile of the latencies, in milliseconds."""
        return statistics.quantiles(self.milliseconds, n=100, method="inclusive")[percent - 1]


@contextmanager
def server(checkpoint: Path) -> Generator[str]:
    """`offramp serve` in a process of its own on a free port; gives its address."""
    command = [sys.executable, "-m", "offramp.cli.main", "serve", "--address", "127.0.0.1:0"]
    process = subprocess.Popen(  # noqa: S603 - our own command
        [*command, "--checkpoint", str(checkpoint)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"serves on (\S+)", line)
        if not found:
            sys.exit(f"the server did not start; it said {line!r}")
        yield found.group(1)
    finally:
        process.terminate()
        process.wait(timeout=STARTING)


def classify_each(client: Client, texts: Sequence[str], threshold: float | None) -> Run:
    """Classify one text at a time and time each call."""
    answers: list[Answer] = []
    milliseconds: list[float] = []
    for text in texts:
        started = time.perf_counter()
        if threshold is None:
            answers.append(client.classify(text))
        else:
            answers.append(client.classify(text, threshold=threshold))
        milliseconds.append((time.perf_counter() - started) * 1e3)
    return Run(answers, milliseconds)


def exits_table(run: Run) -> Table:
    """How many left at each exit."""
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for name in ("left at exit", "layers run", "sentences", "share"):
        table.add_column(name, justify="right" if name != "layers run" else "left")
    counts = Counter((answer.exit, answer.layer, answer.layers) for answer in run.answers)
    for (exit_index, layer, layers), count in sorted(counts.items()):
        share = f"{count / len(run.answers):.0%}"
        table.add_row(str(exit_index), depth_bar(layer, layers), str(count), share)
    return table


def comparison_table(early: Run, full: Run) -> Table:
    """The run with exits beside the same run at full depth."""
    layers = full.answers[0].layers
    same = sum(a.label == b.label for a, b in zip(early.answers, full.answers, strict=True))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "mean layers", "layer speedup", "p50 ms", "p99 ms", "labels as full depth"):
        table.add_column(name, justify="right" if name else "left")
    threshold = early.answers[0].threshold
    for name, run, agreement in (
        (f"early exits, threshold {threshold:g}", early, f"{same} of {len(full.answers)}"),
        ("full depth", full, ""),
    ):
        table.add_row(
            name,
            f"{run.mean_layers:.2f}",
            f"{layers / run.mean_layers:.2f}",
            f"{run.percentile(50):.1f}",
            f"{run.percentile(99):.1f}",
            agreement,
        )
    return table


def show(screen: Console, texts: Sequence[str], early: Run, full: Run) -> None:
    """Print the three tables."""
    rows = zip(texts, early.answers, early.milliseconds, strict=True)
    for table in (answers_table(rows), exits_table(early), comparison_table(early, full)):
        screen.print(table)
        screen.print()


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--sentences", type=Path, default=HERE / "sentences.txt")
    args = parser.parse_args()
    texts = args.sentences.read_text(encoding="utf-8").splitlines()
    with server(args.checkpoint) as address, Client(address) as client:
        classify_each(client, texts[:WARM_UP_CALLS], 1.0)
        early = classify_each(client, texts, None)
        full = classify_each(client, texts, 1.0)
    show(console(), texts, early, full)


if __name__ == "__main__":
    main()
