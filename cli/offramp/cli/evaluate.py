"""`offramp evaluate`: accuracy per exit and the whole trade-off on labelled text."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from offramp.model.checkpoint import load_checkpoint
from offramp.model.errors import ModelError
from offramp.training.data import DataError, load_dataset
from offramp.training.evaluate import Evaluation, evaluate

SHOWN = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0)


def main(arguments: Sequence[str]) -> int:
    """Evaluate and report; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="offramp evaluate", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path, help="write the figures of every threshold here")
    args = parser.parse_args(arguments)
    try:
        checkpoint = load_checkpoint(args.checkpoint)
        dataset = load_dataset(args.data, checkpoint.config.labels)
    except (DataError, ModelError) as error:
        print(f"offramp evaluate: {error}", file=sys.stderr)
        return 1
    evaluation = evaluate(checkpoint, dataset)
    if args.json:
        args.json.write_text(json.dumps(evaluation.to_dict(), indent=1) + "\n", encoding="utf-8")
    Console().print(_table(evaluation))
    return 0


def _table(evaluation: Evaluation) -> Table:
    exits = " ".join(f"{accuracy:.3f}" for accuracy in evaluation.exit_accuracies)
    table = Table(title=f"{evaluation.examples} examples, accuracy per exit {exits}")
    for column in ("threshold", "accuracy", "agreement", "mean layers", "layer speedup"):
        table.add_column(column, justify="right")
    points = [point for point in evaluation.points if point.threshold in SHOWN]
    for point in sorted({*points, evaluation.default}, key=lambda point: point.threshold):
        default = " (default)" if point == evaluation.default else ""
        table.add_row(
            f"{point.threshold:g}{default}",
            f"{point.accuracy:.4f}",
            f"{point.agreement:.4f}",
            f"{point.mean_layers:.2f}",
            f"{point.layer_speedup:.2f}",
        )
    return table
