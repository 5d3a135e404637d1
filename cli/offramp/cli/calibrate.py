"""`offramp calibrate`: temperatures, trade-off table and default threshold of a checkpoint."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from offramp.model.checkpoint import load_checkpoint, save_calibration
from offramp.model.errors import ModelError
from offramp.training.calibrate import calibrate
from offramp.training.data import DataError, load_dataset


def main(arguments: Sequence[str]) -> int:
    """Calibrate in place; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="offramp calibrate", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="labelled, not trained on")
    parser.add_argument(
        "--max-accuracy-drop",
        type=float,
        default=0.005,
        help="what the default threshold may lose against full depth (default: 0.005)",
    )
    args = parser.parse_args(arguments)
    try:
        checkpoint = load_checkpoint(args.checkpoint)
        dataset = load_dataset(args.data, checkpoint.config.labels)
    except (DataError, ModelError) as error:
        print(f"offramp calibrate: {error}", file=sys.stderr)
        return 1
    calibration = calibrate(checkpoint, dataset, args.max_accuracy_drop)
    save_calibration(calibration, args.checkpoint)
    temperatures = " ".join(f"{value:.2f}" for value in calibration.temperatures)
    print(f"temperatures       {temperatures}")
    chosen = calibration.default_threshold
    point = next(point for point in calibration.table if point.threshold == chosen)
    print(
        f"default threshold  {chosen:g}: accuracy {point.accuracy:.3f}"
        f" (full depth {point.accuracy + point.accuracy_drop:.3f}),"
        f" agreement {point.agreement:.3f}, layer speedup {point.layer_speedup:.2f}"
    )
    return 0
