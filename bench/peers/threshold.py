"""The threshold of equal quality: the lowest that loses at most half a point on any dev file."""

import random
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch

from offramp.model.checkpoint import Checkpoint, load_checkpoint
from offramp.model.rules import score_exits
from offramp.training.batches import tokenize
from offramp.training.data import load_dataset
from offramp.training.evaluate import exit_logits
from offramp.training.sweep import Sweep, thresholds_of

LOSS = 0.005
"""Of accuracy, against full depth."""

Quality = dict[str, float]


def of_equal_quality(checkpoint: Path, dev: Sequence[Path], test: Sequence[Path]) -> Quality:
    """Chosen so that no dev file loses more than `LOSS`; what it loses there and on test.

    A mean over the files would let one hide what another loses. Nor does any threshold above the
    chosen one lose more on dev. Of the test files as many texts are taken as the smallest has.
    """
    loaded = load_checkpoint(checkpoint)
    on_dev = [_swept(loaded, path)[0].points() for path in dev]
    drops = [max(point.accuracy_drop for point in at) for at in zip(*on_dev, strict=True)]
    at = len(drops) - 1
    while at and drops[at - 1] <= LOSS:
        at -= 1
    fewest = min(len(load_dataset(path, loaded.config.labels).examples) for path in test)
    draw = random.Random(0)
    on_test = [_swept(loaded, path, draw, fewest) for path in test]
    told = [sweep.points()[at] for sweep, _ in on_test]
    run = sum(float((sweep.layers[at] * lengths).sum()) for sweep, lengths in on_test)
    return {
        "threshold": told[0].threshold,
        "dev_accuracy_drop": drops[at],
        "test_accuracy": statistics.fmean(point.accuracy for point in told),
        "test_accuracy_drop": statistics.fmean(point.accuracy_drop for point in told),
        "test_agreement": statistics.fmean(point.agreement for point in told),
        "test_layers_a_token": run / sum(float(lengths.sum()) for _, lengths in on_test),
    }


def _swept(
    checkpoint: Checkpoint, path: Path, draw: random.Random | None = None, rows: int = 0
) -> tuple[Sweep, torch.Tensor]:
    """All thresholds on the texts of a file, or on some of them, and the texts' tokens."""
    config, calibration = checkpoint.config, checkpoint.calibration
    examples = load_dataset(path, config.labels).examples
    tokens = tokenize(draw.sample(examples, rows) if draw else examples, checkpoint.tokenizer)
    logits = exit_logits(checkpoint.model, tokens, torch.device("cpu"))
    scores = score_exits(calibration.rule, logits, calibration.temperatures)
    labels = torch.tensor([row.label for row in tokens])
    thresholds = thresholds_of(calibration.rule, len(config.labels))
    lengths = torch.tensor([float(len(row.tokens)) for row in tokens])
    return Sweep.of(scores, labels, config.exit_layers, thresholds), lengths
