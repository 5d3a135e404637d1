"""Are promised thresholds kept? 200 random calibrations of a checkpoint on parts of one dev file.

python bench/paper/promises.py --checkpoint checkpoints/sst2-minilm --data sst2/dev.jsonl.gz

In several ways, since what a threshold really loses is never known from a file. *Draws*: the file
is taken as the whole population, texts are drawn from it with replacement, and the loss is known
exactly; at most 5 % may break, plus the sampling error of 200 draws. *Splits*: a random part
calibrates, the others are the judge, whose own sampling error counts as breaking: `judged_limit`
tells how much that may be.
"""

import argparse
import json
import math
from pathlib import Path
from statistics import NormalDist

import torch
from torch import Tensor

from offramp.model.calibration import Calibration
from offramp.model.checkpoint import load_checkpoint
from offramp.model.rules import score_exits
from offramp.training.batches import tokenize
from offramp.training.bounds import ALPHA
from offramp.training.calibrate import CalibrationConfig, calibrate_logits
from offramp.training.data import load_dataset
from offramp.training.evaluate import exit_logits
from offramp.training.sweep import Sweep

ALLOWED = (0.005, 0.01, 0.02, 0.05)
SPLITS = {"a quarter": 0.25, "a half": 0.5}
"""Shares of the file that calibrate, while the rest judges."""


def main() -> None:
    """Count broken promises and write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    checkpoint = load_checkpoint(args.checkpoint)
    dataset = load_dataset(args.data, checkpoint.config.labels)
    rows = tokenize(dataset.examples, checkpoint.tokenizer)
    labels = torch.tensor([row.label for row in rows])
    logits = exit_logits(checkpoint.model, rows, torch.device("cpu"))
    layers = checkpoint.config.exit_layers
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    limits = {"draws": ALPHA, **{name: judged_limit(share) for name, share in SPLITS.items()}}
    counts = {way: [_nothing(share) for share in ALLOWED] for way in limits}
    for seed in range(args.rounds):
        order = torch.randperm(len(labels), generator=draw)
        drawn = torch.randint(len(labels), (len(labels),), generator=draw)
        parts = {"draws": (drawn, torch.arange(len(labels)))}
        for name, share in SPLITS.items():
            cut = round(len(labels) * share)
            parts[name] = (order[:cut], order[cut:])
        for way, (sample, judge) in parts.items():
            config = CalibrationConfig(seed=seed)
            found = calibrate_logits(logits[:, sample], labels[sample], layers, config).calibration
            for count in counts[way]:
                _judge(count, found, logits[:, judge], labels[judge], layers)
    for count in (count for way in counts.values() for count in way):
        for name in ("drop_threshold", "agreement_threshold"):
            count[name] /= args.rounds
    source = args.data.parent.name
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / "promises.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results[source] = {
        "checkpoint": checkpoint.name,
        "examples": len(labels),
        "rounds": args.rounds,
        "ways": {way: {"limit": limit, "counts": counts[way]} for way, limit in limits.items()},
    }
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for way, rounds in counts.items():
        for count in rounds:
            print(source, way, count)


def judged_limit(share: float) -> float:
    """The share of splits that may find a true promise broken, `share` of the rows calibrating.

    A threshold is accepted if the tested rows show z = 1.64 standard deviations less than allowed,
    of which there are f among tested and judging rows. Those that the tested rows happen to lack
    are with the judge. If the file as a whole lies such that both happen most often, they
    do with a probability of normal(-z sqrt(1 - f)): 5 % for a judge without end, 12 % for halves.
    """
    tested = share * (1 - CalibrationConfig().fit_share)
    normal = NormalDist()
    return normal.cdf(normal.inv_cdf(ALPHA) * math.sqrt(1 - tested / (tested + 1 - share)))


def _nothing(allowed: float) -> dict[str, float]:
    return {
        "allowed": allowed,
        "drop_broken": 0,
        "drop_threshold": 0.0,
        "disagreement_broken": 0,
        "agreement_threshold": 0.0,
    }


def _judge(
    count: dict[str, float],
    calibration: Calibration,
    logits: Tensor,
    labels: Tensor,
    layers: tuple[int, ...],
) -> None:
    allowed = count["allowed"]
    within = calibration.threshold_within(allowed)
    agreeing = calibration.threshold_agreeing(allowed)
    scored = score_exits(calibration.rule, logits, calibration.temperatures)
    drop, agreement = Sweep.of(scored, labels, layers, (within, agreeing)).points()
    count["drop_broken"] += drop.accuracy_drop > allowed
    count["drop_threshold"] += within
    count["disagreement_broken"] += 1 - agreement.agreement > allowed
    count["agreement_threshold"] += agreeing


if __name__ == "__main__":
    main()
