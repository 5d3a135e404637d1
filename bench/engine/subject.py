"""What is measured here: the real engine with a checkpoint, in this process, on a CPU."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from offramp.cli.rehearsal import Rehearsal
from offramp.model.checkpoint import load_checkpoint
from offramp.training.data import load_dataset

Measure = Callable[[Rehearsal, float, int], dict[str, Any]]
"""Of a rehearsal, the checkpoint's default threshold and a number of rounds, a report."""


def measure(measure: Measure, doc: str | None, *, texts: int, rounds: int) -> None:
    """Read the arguments, measure, print the report and write it."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=texts)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--workers", type=int, default=0, help="0: a server's default")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    checkpoint = load_checkpoint(args.checkpoint, "cpu")
    examples = load_dataset(args.data, checkpoint.config.labels).examples[: args.texts]
    encoded = checkpoint.tokenizer.encode([one.pair for one in examples])
    threshold = checkpoint.calibration.default_threshold
    with Rehearsal(checkpoint, encoded, workers=args.workers) as rehearsal:
        report = {
            "machine": "2 cores, no GPU",
            "torch": torch.__version__,
            "workers": rehearsal.workers,
            "threads": rehearsal.device.submit(torch.get_num_threads).result(),
            "threshold": threshold,
            "texts": len(encoded),
            "rounds": args.rounds,
            **measure(rehearsal, threshold, args.rounds),
        }
    written = json.dumps(report, indent=1)
    print(written)
    if args.output:
        args.output.write_text(written + "\n", encoding="utf-8")
