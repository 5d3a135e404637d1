"""`offramp train`: labelled text and an encoder in, a multi-exit checkpoint out."""

import json
import os
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from types import FrameType
from typing import Any

from offramp.cli.columns import columns_of
from offramp.cli.outputs import check_directory
from offramp.cli.progress import RunLog, RunScreen
from offramp.cli.train_options import parse, refuse_idle
from offramp.model.checkpoint import load_checkpoint, save_checkpoint
from offramp.model.config import ModelConfig
from offramp.model.directory import FILES, is_checkpoint
from offramp.model.errors import ModelError, UnsupportedEncoderError
from offramp.model.exits import MultiExitModel
from offramp.model.pretrained import load_pretrained
from offramp.model.tokenizer import TextTokenizer
from offramp.training.data import Dataset, load_dataset, load_datasets, load_unlabelled
from offramp.training.finetune import finetune
from offramp.training.recipe import TrainingConfig
from offramp.training.records import DataError
from offramp.training.run import Progress, Saving
from offramp.training.state import InterruptedRunError

INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Train and save; returns the exit status, 130 if interrupted, with any state saved."""
    args, given = parse(arguments)
    state = args.output / "training.state"
    if args.resume and not state.exists() and is_checkpoint(args.output):
        print(f"offramp train: {args.output} is already finished")
        return 0
    try:
        check_directory(args.output)
        _check_unused(args.output, state, resume=args.resume)
        refuse_idle(args, given)
        saving = Saving(state, args.save_seconds)
        config = TrainingConfig(
            **{name.name: getattr(args, name.name) for name in fields(TrainingConfig)}
        )
        columns = columns_of(args)
        train = load_datasets(args.data, columns)
        pairs = train.pairs
        dev = load_dataset(args.dev, train.labels, columns, train.labels_seen, pairs=pairs)
        unlabelled = load_unlabelled(args.unlabelled, columns, pairs=pairs)
        _warn(train, dev)
        pretrained = load_pretrained(args.encoder)
        limit = pretrained.config.token_limit
        shape = ModelConfig(
            encoder=pretrained.config,
            labels=train.labels,
            exit_layers=tuple(args.exits or range(1, pretrained.config.layers + 1)),
            pooling=args.pooling,
            max_tokens=args.max_tokens if "max_tokens" in given else min(args.max_tokens, limit),
            pairs=pairs,
        )
        _check_types(args.encoder, pretrained.tokenizer, shape)
        teacher = _teacher(args.teacher, pretrained.tokenizer, shape)
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
                teaching=screen.teach,
                saving=saving,
                interrupted=lambda: bool(asked),
            )
        save_checkpoint(checkpoint, args.output)
        state.unlink(missing_ok=True)
    except InterruptedRunError:
        kept = f"with --resume goes on from {state}" if state.exists() else "begins anew"
        print(f"offramp train: stopped; the same command {kept}")
        return INTERRUPTED
    except (DataError, ModelError, OSError, ValueError) as error:
        print(f"offramp train: {error}", file=sys.stderr)
        return 1
    print(f"saved {args.output}; next: offramp calibrate --checkpoint {args.output} --data DEV")
    return 0


def _warn(train: Dataset, dev: Dataset) -> None:
    """Tell what makes a model look better than it is, or worse."""
    if known := dev.inputs & train.inputs:
        told = f"{len(known)} of the {len(dev.inputs)} texts of --dev are in --data too"
        print(f"offramp train: {told}: what they say of the model is too good", file=sys.stderr)
    if several := train.contradictions:
        told = f"{several} texts of --data have more than one label"
        print(f"offramp train: {told}", file=sys.stderr)


def _check_unused(output: Path, state: Path, *, resume: bool) -> None:
    """Raise ValueError where training would destroy what is there; a run goes on from its state."""
    if state.exists():
        if not resume:
            raise ValueError(f"{state} is an unfinished run's; give --resume, or remove it")
    elif any((output / name).exists() for name in FILES):
        raise ValueError(f"{output} holds a model already; give another --output, or remove it")


@contextmanager
def _asked_to_stop() -> Generator[list[int]]:
    """The signals that asked the run to stop; it does so after the step it is in."""
    asked: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)

    def ask(number: int, _: FrameType | None) -> None:
        if not asked:
            # Not by `print`, which may be what was interrupted.
            os.write(2, b"\nstopping after this step\n")
        asked.append(number)

    before = [signal.signal(number, ask) for number in numbers]
    try:
        yield asked
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _check_types(encoder: str, tokenizer: str, shape: ModelConfig) -> None:
    """Raise UnsupportedEncoderError where pairs have token types that the encoder has not."""
    known = shape.encoder.token_types
    _, most = TextTokenizer(tokenizer, shape.max_tokens).reach(pair=bool(shape.pairs))
    if known and most >= known:
        raise UnsupportedEncoderError(
            f"the encoder {encoder!r} cannot read pairs of texts: its tokenizer gives them token"
            f" types up to {most}, its embeddings are of {known}"
        )


def _teacher(directory: Path | None, tokenizer: str, shape: ModelConfig) -> MultiExitModel | None:
    """The teacher's model, or none; raises DataError where it cannot read what it is to teach."""
    if directory is None:
        return None
    checkpoint = load_checkpoint(directory)
    known, limit = list(checkpoint.config.labels), checkpoint.config.encoder.token_limit
    if known != list(shape.labels):
        raise DataError(
            directory, None, f"the teacher knows the labels {known}, not {list(shape.labels)}"
        )
    if checkpoint.config.pairs is not None and checkpoint.config.pairs != shape.pairs:
        learned, given = ("pairs", "single texts")[:: 1 if checkpoint.config.pairs else -1]
        raise DataError(directory, None, f"the teacher learned of {learned}, the data has {given}")
    if _tokenization(checkpoint.tokenizer.definition) != _tokenization(tokenizer):
        raise DataError(
            directory, None, "the teacher's tokenizer is not the encoder's; train it from that one"
        )
    if limit < shape.max_tokens:
        raise DataError(
            directory, None, f"the teacher reads {limit} tokens at most; give --max-tokens {limit}"
        )
    return checkpoint.model


def _tokenization(definition: str) -> dict[str, Any]:
    """A tokenizer's definition without the lengths that it cuts and pads to, which are ours."""
    return {**json.loads(definition), "truncation": None, "padding": None}
