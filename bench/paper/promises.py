"""Are promised thresholds kept? 200 random calibrations of a checkpoint on parts of one dev file.

python bench/paper/promises.py --checkpoint checkpoints/sst2-minilm --data sst2/dev.jsonl.gz

Twice, since what a threshold really loses is never known from a file. *Splits*: a random half
calibrates, the other half is the judge; its own sampling error counts as breaking. *Draws*: the
file is taken as the whole population, texts are drawn from it with replacement, and the loss is
known exactly; here at most 5 % may break, plus the sampling error of 200 draws.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from offramp.model.calibration import Calibration
from offramp.model.checkpoint import load_checkpoint
from offramp.model.rules import score_exits
from offramp.training.batches import tokenize
from offramp.training.calibrate import CalibrationConfig, calibrate_logits
from offramp.training.data import load_dataset
from offramp.training.evaluate import exit_logits
from offramp.training.sweep import Sweep

ALLOWED = (0.005, 0.01, 0.02, 0.05)


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
    counts = {way: [_nothing(share) for share in ALLOWED] for way in ("splits", "draws")}
    for seed in range(args.rounds):
        order = torch.randperm(len(labels), generator=draw)
        half = len(labels) // 2
        drawn = torch.randint(len(labels), (len(labels),), generator=draw)
        everything = torch.arange(len(labels))
        for way, sample, judge in (
            ("splits", order[:half], order[half:]),
            ("draws", drawn, everything),
        ):
            config = CalibrationConfig(seed=seed)
            found = calibrate_logits(logits[:, sample], labels[sample], layers, config).calibration
            for count in counts[way]:
                _judge(count, found, logits[:, judge], labels[judge], layers)
    for count in (count for way in counts.values() for count in way):
        for name in ("drop_threshold", "agreement_threshold"):
            count[name] /= args.rounds
    result = {
        "checkpoint": checkpoint.name,
        "examples": len(labels),
        "rounds": args.rounds,
        "most_broken": 0.05,
        **counts,
    }
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / "promises.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for way, rounds in counts.items():
        for count in rounds:
            print(way, count)


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
