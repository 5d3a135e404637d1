"""`offramp train`: labelled text and an encoder in, a multi-exit checkpoint out."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from offramp.model.checkpoint import load_checkpoint, save_checkpoint
from offramp.model.config import ModelConfig, Pooling
from offramp.model.errors import ModelError
from offramp.model.exits import MultiExitModel
from offramp.model.pretrained import load_pretrained
from offramp.training.data import DataError, load_dataset, load_datasets, load_unlabelled
from offramp.training.finetune import Progress, Recipe, TrainingConfig, finetune

DEFAULTS = TrainingConfig()


def main(arguments: Sequence[str]) -> int:
    """Train and save; returns the exit status."""
    args = _parser().parse_args(arguments)
    config = TrainingConfig(
        recipe=args.recipe,
        epochs=args.epochs,
        last_exit_epochs=args.last_exit_epochs,
        batch_rows=args.batch_rows,
        learning_rate=args.learning_rate,
        distillation=args.distillation,
        bfloat16=args.bfloat16,
        seed=args.seed,
    )
    try:
        train = load_datasets(args.data)
        dev = load_dataset(args.dev, train.labels)
        unlabelled = load_unlabelled(args.unlabelled)
        pretrained = load_pretrained(args.encoder)
        shape = ModelConfig(
            encoder=pretrained.config,
            labels=train.labels,
            exit_layers=tuple(args.exits or range(1, pretrained.config.layers + 1)),
            pooling=args.pooling,
            max_tokens=args.max_tokens,
        )
        teacher = _teacher(args.teacher, train.labels)
    except (DataError, ModelError, ValueError) as error:
        print(f"offramp train: {error}", file=sys.stderr)
        return 1
    history: list[Progress] = []

    def report(progress: Progress) -> None:
        print(_line(progress, config.epochs), file=sys.stderr, flush=True)
        if progress.exit_accuracies is not None:
            history.append(progress)

    checkpoint = finetune(
        pretrained, shape, train, dev, config, report, unlabelled=unlabelled, teacher=teacher
    )
    save_checkpoint(checkpoint, args.output)
    log = {"config": asdict(config), "epochs": [asdict(progress) for progress in history]}
    (args.output / "training.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    print(f"saved {args.output}; next: offramp calibrate --checkpoint {args.output} --data DEV")
    return 0


def _teacher(directory: Path | None, labels: Sequence[str]) -> MultiExitModel | None:
    if directory is None:
        return None
    checkpoint = load_checkpoint(directory)
    if checkpoint.config.labels != tuple(labels):
        known = list(checkpoint.config.labels)
        raise DataError(
            directory, None, f"the teacher knows the labels {known}, not {list(labels)}"
        )
    return checkpoint.model


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="offramp train", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--data", type=Path, nargs="+", required=True, help="training files, .jsonl or .jsonl.gz")
    add("--dev", type=Path, required=True, help="development file, to choose the best epoch")
    add(
        "--encoder",
        required=True,
        help="encoder to start from: a directory (one of our checkpoints too) or a hub name",
    )
    add("--unlabelled", type=Path, nargs="+", default=[], help="texts taught by distillation alone")
    add("--teacher", type=Path, help="checkpoint whose last exit teaches every exit")
    add("--output", type=Path, required=True, help="checkpoint directory to write")
    add("--exits", type=int, nargs="+", help="layers with an exit after them (default: all)")
    add("--pooling", type=Pooling, choices=list(Pooling), default=Pooling.MEAN)
    add("--max-tokens", type=int, default=128, help="token limit of a text (default: 128)")
    add("--recipe", type=Recipe, choices=list(Recipe), default=DEFAULTS.recipe)
    add("--epochs", type=int, default=DEFAULTS.epochs)
    add(
        "--last-exit-epochs",
        type=int,
        default=DEFAULTS.last_exit_epochs,
        help="of these, spent on the last exit alone by the mixed recipe",
    )
    add("--batch-rows", type=int, default=DEFAULTS.batch_rows)
    add("--learning-rate", type=float, default=DEFAULTS.learning_rate)
    add(
        "--distillation",
        type=float,
        default=DEFAULTS.distillation,
        help="share of the early exits' loss that the last exit teaches, 0 to 1",
    )
    add("--bfloat16", action="store_true", help="compute in bfloat16 where the machine is fast")
    add("--seed", type=int, default=DEFAULTS.seed)
    return parser


def _line(progress: Progress, epochs: int) -> str:
    head = (
        f"epoch {progress.epoch + 1}/{epochs}  step {progress.step}/{progress.steps}"
        f"  loss {progress.loss:.3f}  {progress.seconds:.0f} s"
    )
    if progress.exit_accuracies is None:
        return head
    return f"{head}  dev " + " ".join(f"{value:.3f}" for value in progress.exit_accuracies)
