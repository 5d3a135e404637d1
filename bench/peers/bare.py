"""Our stages and ONNX Runtime's bare forward in turn, one sentence at a time, no server around.

    python bench/peers/bare.py --texts sst2/test.jsonl.gz --json bench/results/bare.json

Two of ours, stage by stage as the server runs a lone request: full depth, where the last exit alone
is read, and with the reading of each exit until a sentence is confident. `--cpu-time` counts CPU
seconds on one thread, for machines that others use.
"""

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from environments import BARE, ROOT, SERVERS, environment, exported

from offramp.cli.load.circumstances import circumstances, yardstick
from offramp.cli.load.inputs import read_texts
from offramp.model.checkpoint import load_checkpoint
from offramp.model.tokenizer import Tokens
from offramp.scheduler.backend import Batch
from offramp.scheduler.reading import Reading
from offramp.scheduler.request import Request, Terms
from offramp.server.backend import TorchBackend

ROUNDS = 5


class Ours:
    """The server's backend with one request at a time."""

    def __init__(self, checkpoint: Path, texts: Sequence[str]) -> None:
        loaded = load_checkpoint(checkpoint)
        self._exits = loaded.config.exits
        self._default = loaded.calibration.default_threshold
        self._backend = TorchBackend(loaded, 1, torch.device("cpu"))
        for piece in self._backend.warm(loaded.config.max_tokens):
            piece()
        self._rows = loaded.tokenizer.encode([(text, None) for text in texts])

    def median(self, clock: Callable[[], float], *, early: bool) -> float:
        """Median milliseconds of a sentence."""
        threshold = self._default if early else 2.0
        times: list[float] = []
        for row in self._rows:
            started = clock()
            self._classify(row, threshold)
            times.append((clock() - started) * 1e3)
        return statistics.median(times)

    def labels(self) -> list[int]:
        """The label of each text at full depth."""
        return [self._classify(row, 2.0).label for row in self._rows]

    def _classify(self, row: Tokens, threshold: float) -> Reading:
        terms = Terms(threshold, 0, self._exits - 1)
        request = Request(row, len(row), terms, 0.0, deliver=lambda _: None, slot=0)
        for stage in range(self._exits):
            reads = threshold <= 1 or stage == self._exits - 1
            readings = self._backend.run(Batch(stage, (request,), 0.0, reads=reads))
            if readings and (readings[0].score >= threshold or stage == self._exits - 1):
                return readings[0]
        raise AssertionError("the last exit is read")


def full_depth_labels(checkpoint: Path, texts: Sequence[str]) -> list[str]:
    """What our own full depth says of the texts."""
    names = load_checkpoint(checkpoint).config.labels
    return [names[label] for label in Ours(checkpoint, texts).labels()]


def bare(model: Path, texts: Path, threads: int, *, cpu_time: bool) -> float:
    """ONNX Runtime's median milliseconds."""
    python = environment("bare", BARE) / "python"
    command = [str(python), str(SERVERS / "forward.py"), str(model), str(texts)]
    command += ["--threads", str(threads), *(["--cpu-time"] if cpu_time else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["p50_ms"])


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Our stages and ONNX Runtime in turn.")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "sst2-minilm")
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    if args.cpu_time:
        args.threads = 1
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.cpu_time else time.perf_counter
    texts = read_texts(args.texts)[: args.sentences]
    model = exported(args.checkpoint)
    (model / "texts.json").write_text(json.dumps(texts))
    ours = Ours(args.checkpoint, texts)
    ours.median(clock, early=False)
    rounds: dict[str, list[float]] = {"onnxruntime": [], "full_depth": [], "default_threshold": []}
    for _ in range(ROUNDS):
        found = bare(model, model / "texts.json", args.threads, cpu_time=args.cpu_time)
        rounds["onnxruntime"].append(found)
        rounds["full_depth"].append(ours.median(clock, early=False))
        rounds["default_threshold"].append(ours.median(clock, early=True))
    middle = {name: statistics.median(values) for name, values in rounds.items()}
    record = {
        **circumstances(),
        "yardstick_gflops": yardstick(),
        "threads": args.threads,
        "clock": "cpu" if args.cpu_time else "wall",
        "p50_ms": middle,
        "full_depth_over_onnxruntime": middle["full_depth"] / middle["onnxruntime"],
        "default_threshold_over_onnxruntime": middle["default_threshold"] / middle["onnxruntime"],
        "rounds": rounds,
    }
    print(json.dumps(record, indent=1))
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
