"""`offramp train`: labelled text and an encoder in, a multi-exit checkpoint out."""

import argparse
import json
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from offramp.cli.progress import RunLog, RunScreen
from offramp.model.checkpoint import load_checkpoint, save_checkpoint
from offramp.model.config import ModelConfig, Pooling
from offramp.model.errors import ModelError
from offramp.model.exits import MultiExitModel
from offramp.model.pretrained import load_pretrained
from offramp.training.data import load_dataset, load_datasets, load_unlabelled
from offramp.training.finetune import finetune
from offramp.training.recipe import PAPER, Recipe, TrainingConfig
from offramp.training.records import Columns, DataError
from offramp.training.run import InterruptedRunError, Progress, Saving

PRESETS = {"default": TrainingConfig(), "paper": PAPER}
PAPER_SHAPE = {"pooling": Pooling.CLS, "max_tokens": 512}
INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Train and save; returns the exit status, 130 if interrupted with the state saved."""
    args = _parse(arguments)
    state = args.output / "training.state"
    if state.exists() and not args.resume:
        print(
            f"offramp train: {state} is an unfinished run's; give --resume, or remove it",
            file=sys.stderr,
        )
        return 1
    try:
        config = TrainingConfig(
            **{name.name: getattr(args, name.name) for name in fields(TrainingConfig)}
        )
        columns = Columns(args.text_column, args.pair_column, args.label_column)
        train = load_datasets(args.data, columns)
        dev = load_dataset(args.dev, train.labels, columns, train.labels_seen)
        unlabelled = load_unlabelled(args.unlabelled, columns)
        pretrained = load_pretrained(args.encoder)
        shape = ModelConfig(
            encoder=pretrained.config,
            labels=train.labels,
            exit_layers=tuple(args.exits or range(1, pretrained.config.layers + 1)),
            pooling=args.pooling,
            max_tokens=min(args.max_tokens, pretrained.config.token_limit),
        )
        teacher = _teacher(args.teacher, train.labels, pretrained.tokenizer, shape.max_tokens)
        args.output.mkdir(parents=True, exist_ok=True)
        log = RunLog(args.output / "training.jsonl", asdict(config), resumed=state.exists())
        with RunScreen(config.epochs) as screen, _asked_to_stop() as asked:

            def report(progress: Progress) -> None:
                log.add(progress)
                screen.show(progress)

            checkpoint = finetune(
                pretrained,
                shape,
                train,
                dev,
                config,
                report,
                unlabelled=unlabelled,
                teacher=teacher,
                saving=Saving(state, args.save_seconds),
                interrupted=lambda: bool(asked),
            )
    except InterruptedRunError:
        print(f"offramp train: stopped; the same command with --resume goes on from {state}")
        return INTERRUPTED
    except (DataError, ModelError, ValueError) as error:
        print(f"offramp train: {error}", file=sys.stderr)
        return 1
    save_checkpoint(checkpoint, args.output)
    state.unlink(missing_ok=True)
    print(f"saved {args.output}; next: offramp calibrate --checkpoint {args.output} --data DEV")
    return 0


@contextmanager
def _asked_to_stop() -> Generator[list[int]]:
    """The signals that asked the run to stop; it does so after the step it is in."""
    asked: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: asked.append(number)) for number in numbers]
    try:
        yield asked
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _teacher(
    directory: Path | None, labels: Sequence[str], tokenizer: str, max_tokens: int
) -> MultiExitModel | None:
    """The teacher's model, or none; raises DataError where it cannot read what it is to teach."""
    if directory is None:
        return None
    checkpoint = load_checkpoint(directory)
    known, limit = list(checkpoint.config.labels), checkpoint.config.encoder.token_limit
    if known != list(labels):
        raise DataError(
            directory, None, f"the teacher knows the labels {known}, not {list(labels)}"
        )
    if _tokenization(checkpoint.tokenizer.definition) != _tokenization(tokenizer):
        raise DataError(
            directory, None, "the teacher's tokenizer is not the encoder's; train it from that one"
        )
    if limit < max_tokens:
        raise DataError(
            directory, None, f"the teacher reads {limit} tokens at most; give --max-tokens {limit}"
        )
    return checkpoint.model


def _tokenization(definition: str) -> dict[str, Any]:
    """A tokenizer's definition without the lengths that it cuts and pads to, which are ours."""
    return {**json.loads(definition), "truncation": None, "padding": None}


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset", choices=list(PRESETS), default="default")
    preset = chooser.parse_known_args(arguments)[0].preset
    parser = _parser()
    parser.set_defaults(**asdict(PRESETS[preset]))
    if preset == "paper":
        parser.set_defaults(**PAPER_SHAPE)
    return parser.parse_args(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="offramp train",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    sources = "files (.jsonl, .csv, .tsv, each also .gz; .parquet) or datasets, NAME:SPLIT"
    add = parser.add_argument_group("data").add_argument
    add("--data", nargs="+", required=True, metavar="SOURCE", help=f"training {sources}")
    add("--dev", required=True, metavar="SOURCE", help="development data, to choose the epoch")
    add("--unlabelled", nargs="+", default=[], metavar="SOURCE", help="texts for distillation")
    columns = Columns()
    add("--text-column", default=columns.text)
    add("--pair-column", default=columns.text_pair, help="second text, where there is one")
    add("--label-column", default=columns.label)
    add = parser.add_argument_group("model").add_argument
    add("--encoder", required=True, help="a directory (one of our checkpoints too) or a hub name")
    add("--teacher", type=Path, help="checkpoint whose last exit teaches every exit")
    add("--output", type=Path, required=True, help="checkpoint directory to write")
    add("--exits", type=int, nargs="+", help="layers with an exit after them; None is all")
    add("--pooling", type=Pooling, choices=list(Pooling), default=Pooling.MEAN)
    add("--max-tokens", type=int, default=128, help="token limit of a text")
    add = parser.add_argument_group("recipe").add_argument
    add("--preset", choices=list(PRESETS), default="default", help="what the options default to")
    add("--recipe", type=Recipe, choices=list(Recipe), help="which exits are trained when")
    add("--epochs", type=int, help="times through the data")
    add("--last-exit-epochs", type=int, help="of these, the last exit's alone, by mixed")
    add("--patience", type=int, help="epochs without a better one before stopping; 0 is never")
    add("--distillation", type=float, help="share of early exits' losses that the last teaches")
    add("--equilibrium", action=argparse.BooleanOptionalAction, help="even gradients of exits")
    add("--separation", type=float, help="share of later exits' gradients kept from early layers")
    add("--batch-rows", type=int, help="texts a step")
    add("--learning-rate", type=float, help="of the encoder, at its peak")
    add("--head-learning-rate", type=float, help="of the exit heads")
    add("--mix-learning-rate", type=float, help="of the layer mixes")
    add("--query-learning-rate", type=float, help="of the queries of --pooling attention")
    add("--weight-decay", type=float, help="of the encoder's matrices")
    add("--warmup-share", type=float, help="share of the steps that warm up")
    add("--decay", action=argparse.BooleanOptionalAction, help="decay the rates to nothing")
    add("--dropout", type=float, help="share of values dropped while training")
    add("--averaging", type=float, help="share of the moving average that a step keeps; 0: none")
    add("--gradient-norm", type=float, help="gradients are cut to this norm")
    add(
        "--bfloat16",
        action=argparse.BooleanOptionalAction,
        help="compute in bfloat16; by default on a GPU",
    )
    add("--seed", type=int, help="draws everything")
    add = parser.add_argument_group("run").add_argument
    add("--resume", action="store_true", help="go on from an unfinished run in --output")
    add("--save-seconds", type=float, default=120.0, help="at most this much work is lost")
    return parser
