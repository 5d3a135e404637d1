"""`offramp evaluate`: every exit rule over its thresholds, on labelled text."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from offramp.cli.columns import add_columns, columns_of
from offramp.cli.defaults import DefaultsFormatter
from offramp.cli.outputs import IMAGES, check_file
from offramp.cli.table import console
from offramp.model.checkpoint import load_checkpoint
from offramp.model.errors import ModelError
from offramp.training.clock import Timing
from offramp.training.data import load_datasets
from offramp.training.evaluate import Evaluation, Point, best_device, evaluate
from offramp.training.plots import curves
from offramp.training.records import DataError
from offramp.training.report import report

SHOWN = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0)
SHOWN_SPEEDUPS = (1.5, 2.0, 3.0)


def main(arguments: Sequence[str]) -> int:
    """Evaluate and report; returns the exit status."""
    args = _parser().parse_args(arguments)
    try:
        check_file(args.json)
        check_file(args.png, IMAGES)
        check_file(args.html)
        checkpoint = load_checkpoint(args.checkpoint, best_device())
        columns = columns_of(args)
        labels, pairs = checkpoint.config.labels, checkpoint.config.pairs
        dataset = load_datasets(args.data, columns, labels, pairs=pairs)
    except (DataError, ModelError, ValueError) as error:
        print(f"offramp evaluate: {error}", file=sys.stderr)
        return 1
    print(_coming(len(dataset.examples), args.timed_rows), file=sys.stderr, flush=True)
    evaluated = evaluate(checkpoint, dataset, args.timed_rows)
    evaluation = evaluated.evaluation
    try:  # files first: whoever reads the tables may have seen enough of them
        if args.json:
            found = json.dumps(evaluation.to_dict(), indent=1)
            args.json.write_text(found + "\n", encoding="utf-8")
        if args.png:
            curves(evaluation, clock=args.timed_rows > 0).savefig(args.png, dpi=150)
        if args.html:
            names = ", ".join(Path(source).name for source in args.data)
            page = report(evaluated, checkpoint, dataset, names)
            args.html.write_text(page, encoding="utf-8")
    finally:
        screen = console()
        screen.print(_table(evaluation))
        screen.print(_rules(evaluation))
    return 0


def _coming(examples: int, timed: int) -> str:
    """What will take its time."""
    reading = f"reading {examples} examples at every exit"
    if not timed:
        return reading
    return (
        f"{reading}, then timing {min(timed, examples)} of them at some 35 thresholds, three times"
        " (--timed-rows 0 leaves that out)"
    )


def _table(evaluation: Evaluation) -> Table:
    exits = " ".join(f"{accuracy:.3f}" for accuracy in evaluation.exit_accuracies)
    table = Table(title=f"{evaluation.examples} examples, accuracy per exit {exits}")
    for column in ("threshold", "accuracy", "95 %", "agreement", "mean layers", "layer speedup"):
        table.add_column(column, justify="right")
    points = [point for point in evaluation.points if point.threshold in SHOWN]
    for point in sorted({*points, evaluation.default}, key=lambda point: point.threshold):
        default = " (default)" if point == evaluation.default else ""
        low, high = point.accuracy_interval
        table.add_row(
            f"{point.threshold:g}{default}",
            f"{point.accuracy:.4f}",
            f"{low:.3f} to {high:.3f}",
            f"{point.agreement:.4f}",
            f"{point.mean_layers:.2f}",
            f"{point.layer_speedup:.2f}",
        )
    return table


def _rules(evaluation: Evaluation) -> Table:
    """The rules side by side: the fewest layers at hardly any and at some loss, and the clock."""
    table = Table(title="layer speedup of each rule, by what it loses here against full depth")
    table.add_column("rule")
    for column in ("0.5 points", "1 point", "wall-clock (at layer speedup)"):
        table.add_column(column, justify="right")
    for rule in evaluation.rules:
        clock = [
            f"{timing.wall_clock_speedup:.2f} ({timing.layer_speedup:.2f})"
            for timing in _told(rule.timings)
        ]
        found = [_fastest(rule.points, drop).layer_speedup for drop in (0.005, 0.01)]
        table.add_row(str(rule.kind), *(f"{at:.2f}" for at in found), "  ".join(clock) or "-")
    return table


def _fastest(points: Sequence[Point], drop: float) -> Point:
    allowed = [point for point in points if point.accuracy_drop <= drop]
    return max(allowed, key=lambda point: point.layer_speedup)


def _told(timings: Sequence[Timing]) -> list[Timing]:
    """Those nearest to some layer speedups, slowest first: the file and the plots hold all."""
    return [
        min(timings, key=lambda timing: abs(timing.layer_speedup - speedup))
        for speedup in SHOWN_SPEEDUPS
        if timings
    ]


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number, 0 or more, not {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="offramp evaluate",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=DefaultsFormatter,
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, metavar="DIR", required=True, help="directory of the model")
    add(
        "--data",
        nargs="+",
        action="extend",
        required=True,
        metavar="SOURCE",
        help="labelled text, as `offramp train` reads",
    )
    add_columns(add)
    add("--json", type=Path, metavar="FILE", help="write every figure here")
    add("--png", type=Path, metavar="FILE", help="draw the curves here")
    add("--html", type=Path, metavar="FILE", help="write one self-contained page for people here")
    add("--timed-rows", type=_count, default=64, help="texts to time on the clock; 0: none")
    return parser
