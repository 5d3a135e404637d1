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
from tempfile import TemporaryFile

from rich.console import Console
from rich.table import Table

from offramp.cli.table import answers_table, console, depth_bar
from offramp.client import Answer, Client

HERE = Path(__file__).parent
CHECKPOINT = HERE.parent / "checkpoints" / "sst2-minilm"
WARM_UP_CALLS = 20
STOPPING = 60.0
"""Seconds that the server may take to end."""


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
    command += ["--checkpoint", str(checkpoint)]
    with TemporaryFile("w+") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            assert process.stdout is not None
            found = re.search(r"serves on (\S+)", process.stdout.readline())
            if not found:
                process.wait(STOPPING)
                log.seek(0)
                sys.exit(f"the server did not start:\n{log.read()}")
            yield found.group(1)
        finally:
            process.terminate()
            process.wait(STOPPING)


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
    for name in (
        "",
        f"mean layers of {layers}",
        "layer speedup",
        "p50 ms",
        "p99 ms",
        "labels as full depth",
    ):
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
    for title, table in (
        ("What they are, and how deep it took to say so", answers_table(rows, screen.width)),
        ("Where they left", exits_table(early)),
        ("The same at full depth", comparison_table(early, full)),
    ):
        screen.print(f"[bold]{title}[/]\n")
        screen.print(table)
        screen.print()


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--sentences", type=Path, default=HERE / "sentences.txt")
    args = parser.parse_args()
    texts = args.sentences.read_text(encoding="utf-8").splitlines()
    screen = console()
    with screen.status("starting the server") as status, server(args.checkpoint) as address:
        with Client(address) as client:
            model = client.get_model()
            screen.print(
                f"A server of {model.name} at {address}, {model.layers} layers, an exit after"
                f" {_listed(model.exit_layers)}; {len(texts)} sentences, one after the other.\n"
            )
            status.update("classifying")
            classify_each(client, texts[:WARM_UP_CALLS], 1.0)
            early = classify_each(client, texts, None)
            full = classify_each(client, texts, 1.0)
        status.update("stopping the server")
    show(screen, texts, early, full)


def _listed(layers: Sequence[int]) -> str:
    every = list(layers) == list(range(1, layers[-1] + 1))
    return "each" if every else ", ".join(map(str, layers))


if __name__ == "__main__":
    main()
