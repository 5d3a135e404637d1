"""`offramp calibrate`: temperatures, exit rule, trade-off table and promises of a checkpoint."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from offramp.cli.columns import add_columns, columns_of
from offramp.cli.outputs import IMAGES, check_directory, check_file
from offramp.cli.table import console
from offramp.model.checkpoint import load_checkpoint, save_calibration
from offramp.model.errors import ModelError
from offramp.model.rules import RuleKind
from offramp.training.bounds import most_events
from offramp.training.calibrate import CalibrationConfig, CalibrationReport, calibrate
from offramp.training.data import load_datasets, load_unlabelled
from offramp.training.evaluate import best_device
from offramp.training.plots import reliability
from offramp.training.records import DataError

DEFAULTS = CalibrationConfig()
ALLOWED = (0.005, 0.01, 0.02, 0.05)
"""Shares for which the promised thresholds are shown."""


def main(arguments: Sequence[str]) -> int:
    """Calibrate in place; returns the exit status."""
    args = _parser().parse_args(arguments)
    try:
        check_file(args.json)
        check_file(args.png, IMAGES)
        config = CalibrationConfig(
            args.rule, args.budget, args.max_accuracy_drop, args.fit_share, args.seed
        )
        checkpoint = load_checkpoint(args.checkpoint, best_device())
        check_directory(args.checkpoint)
        columns = columns_of(args)
        labels, pairs = checkpoint.config.labels, checkpoint.config.pairs
        dataset = load_datasets(args.data, columns, labels, pairs=pairs)
        unlabelled = load_unlabelled(args.unlabelled, columns, pairs=pairs)
        report = calibrate(checkpoint, dataset, config, unlabelled)
    except (DataError, ModelError, ValueError) as error:
        print(f"offramp calibrate: {error}", file=sys.stderr)
        return 1
    save_calibration(report.calibration, args.checkpoint)
    unseen = [name for at, name in enumerate(labels) if at not in dataset.labels_seen]
    if unseen:
        told = f"no example has the label {', '.join(unseen)}: of it nothing is promised"
        print(f"offramp calibrate: {told}", file=sys.stderr)
    layers = checkpoint.config.exit_layers
    try:  # files first: whoever reads the tables may have seen enough of them
        if args.json:
            args.json.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
        if args.png:
            reliability(layers, report.before, report.after).savefig(args.png, dpi=150)
    finally:
        _show(report, layers, config.promised_drop)
    return 0


def _show(report: CalibrationReport, layers: Sequence[int], drop: float | None) -> None:
    screen = console()
    screen.print(_exits(report, layers))
    screen.print(_promises(report))
    screen.print(_default(report, drop))
    if report.repeats:
        screen.print(
            f"{report.repeats} examples repeat others. Promises suppose that each was drawn by"
            " itself: leave out those that are copies"
        )


def _exits(report: CalibrationReport, layers: Sequence[int]) -> Table:
    table = Table(
        title=f"exits: temperatures from all examples; the rest measured on {report.tested_rows},"
        f" at temperatures from the {report.fitted_rows} others"
    )
    for column in ("layer", "temperature", "ECE before", "after", "Brier before", "after"):
        table.add_column(column, justify="right")
    temperatures = report.calibration.temperatures
    exits = zip(layers, temperatures, report.before, report.after, strict=True)
    for layer, temperature, before, after in exits:
        figures = (before.ece, after.ece, before.brier, after.brier)
        table.add_row(str(layer), f"{temperature:.2f}", *(f"{value:.4f}" for value in figures))
    return table


def _promises(report: CalibrationReport) -> Table:
    calibration = report.calibration
    table = Table(title="promised with 95 % confidence on texts like these")
    for column in ("at most", "accuracy drop: threshold", "layer speedup"):
        table.add_column(column, justify="right")
    for column in ("disagreement: threshold", "layer speedup"):
        table.add_column(column, justify="right")
    speedups = {point.threshold: point.layer_speedup for point in calibration.table}
    for share in ALLOWED:
        found = (calibration.threshold_within(share), calibration.threshold_agreeing(share))
        cells = [cell for at in found for cell in (f"{at:g}", f"{speedups[at]:.2f}")]
        table.add_row(f"{share:.1%}", *cells)
    return table


def _default(report: CalibrationReport, drop: float | None) -> str:
    calibration = report.calibration
    chosen = calibration.default_threshold
    point = next(point for point in calibration.table if point.threshold == chosen)
    rows = report.tested_rows
    can = drop is not None and most_events(drop, rows) >= 0
    why = (
        f"early exits lose too many of the {rows} examples; train them longer"
        if can
        else f"{rows} examples can't promise more; give more of them"
    )
    full = f"\nnothing leaves early so: {why}, or allow more by --max-accuracy-drop"
    return (
        f"default threshold {chosen:g} ({calibration.rule.kind}): accuracy {point.accuracy:.3f}"
        f" (full depth {point.accuracy + point.accuracy_drop:.3f}),"
        f" agreement {point.agreement:.3f}, layer speedup {point.layer_speedup:.2f}"
        f"{full if chosen >= 1 else ''}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="offramp calibrate", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        type=Path,
        metavar="DIR",
        required=True,
        help="directory; its exits.json is replaced",
    )
    many: Any = {"nargs": "+", "action": "extend"}
    add("--data", **many, required=True, metavar="SOURCE", help="labelled text, not trained on")
    add_columns(add)
    add(
        "--rule",
        type=RuleKind,
        choices=list(RuleKind),
        default=DEFAULTS.rule,
        help="what exits are decided by (default: %(default)s)",
    )
    add(
        "--budget",
        type=float,
        metavar="LAYERS",
        help="tune one threshold per exit so that this many layers run on average",
    )
    add(
        "--unlabelled",
        **many,
        default=[],
        metavar="SOURCE",
        help="texts to tune one threshold per exit on, for agreement with full depth: with --budget"
        " the most within it, without one the fewest layers at which no more than"
        " --max-accuracy-drop of them differ",
    )
    add(
        "--max-accuracy-drop",
        type=float,
        help="what the default threshold promises to lose at most (default: 0.01, one point; with"
        " a budget alone it is the one that keeps the budget)",
    )
    add(
        "--fit-share",
        type=float,
        default=DEFAULTS.fit_share,
        help="share of the data that exits are decided by; promises are tested on the rest, and"
        " probabilities calibrated on all (default: 0.25)",
    )
    add("--seed", type=int, default=DEFAULTS.seed, help="draws the examples fitted on (default: 0)")
    add(
        "--json",
        type=Path,
        metavar="FILE",
        help="write all of it here, reliability diagrams included",
    )
    add("--png", type=Path, metavar="FILE", help="draw reliability before and after here")
    return parser
