"""The threshold of equal quality: the lowest that loses at most half a point on dev."""

import random
from collections.abc import Sequence
from pathlib import Path

import torch

from offramp.model.checkpoint import Checkpoint, load_checkpoint
from offramp.model.rules import score_exits
from offramp.training.batches import tokenize
from offramp.training.data import Example, load_dataset
from offramp.training.evaluate import exit_logits
from offramp.training.sweep import Sweep, thresholds_of

LOSS = 0.005
"""Of accuracy, against full depth."""

Quality = dict[str, float]


def of_equal_quality(checkpoint: Path, dev: Sequence[Path], test: Sequence[Path]) -> Quality:
    """Chosen on texts of the dev files in equal parts; what it loses there and on the test files.

    From the chosen threshold up none loses more on dev.
    """
    loaded = load_checkpoint(checkpoint)
    on_dev, _ = _swept(loaded, dev)
    points = on_dev.points()
    at = len(points) - 1
    while at and points[at - 1].accuracy_drop <= LOSS:
        at -= 1
    on_test, lengths = _swept(loaded, test)
    told = on_test.points()[at]
    layers = (on_test.layers[at] * lengths).sum() / lengths.sum()
    return {
        "threshold": points[at].threshold,
        "dev_accuracy_drop": points[at].accuracy_drop,
        "test_accuracy": told.accuracy,
        "test_accuracy_drop": told.accuracy_drop,
        "test_agreement": told.agreement,
        "test_layers_a_token": layers.item(),
    }


def _swept(checkpoint: Checkpoint, paths: Sequence[Path]) -> tuple[Sweep, torch.Tensor]:
    """All thresholds on texts of these files in equal parts, and the texts' tokens."""
    config, calibration = checkpoint.config, checkpoint.calibration
    parts = [load_dataset(path, config.labels).examples for path in paths]
    draw, fewest = random.Random(0), min(map(len, parts))
    examples: list[Example] = [one for part in parts for one in draw.sample(part, fewest)]
    rows = tokenize(examples, checkpoint.tokenizer)
    logits = exit_logits(checkpoint.model, rows, torch.device("cpu"))
    scores = score_exits(calibration.rule, logits, calibration.temperatures)
    labels = torch.tensor([row.label for row in rows])
    thresholds = thresholds_of(calibration.rule, len(config.labels))
    lengths = torch.tensor([float(len(row.tokens)) for row in rows])
    return Sweep.of(scores, labels, config.exit_layers, thresholds), lengths
