"""The options of `offramp train`: their defaults, and which of those given would do nothing."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from offramp.cli.columns import add_columns
from offramp.cli.defaults import DefaultsFormatter
from offramp.model.config import Pooling
from offramp.training.recipe import PAPER, Recipe, TrainingConfig

PRESETS = {"default": TrainingConfig(), "paper": PAPER}
PAPER_SHAPE = {"pooling": Pooling.CLS, "max_tokens": 512}


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, frozenset[str]]:
    """The options, and the names of those that were given and are no defaults."""
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset", choices=list(PRESETS), default="default")
    preset = chooser.parse_known_args(arguments)[0].preset
    parser = _parser()
    parser.set_defaults(**asdict(PRESETS[preset]))
    if preset == "paper":
        parser.set_defaults(**PAPER_SHAPE)
    args = parser.parse_args(arguments)
    unset = argparse.Namespace(**dict.fromkeys(vars(args)))  # a name that is there has no default
    told = vars(parser.parse_args(arguments, unset))
    return args, frozenset(name for name, value in told.items() if value is not None)


def refuse_idle(args: argparse.Namespace, given: frozenset[str]) -> None:
    """Raise ValueError where an option was given that nothing would come of."""
    if "last_exit_epochs" in given and args.recipe is not Recipe.MIXED:
        raise ValueError(
            f"--last-exit-epochs is for --recipe mixed, not {args.recipe}; leave one of them out"
        )
    if "query_learning_rate" in given and args.pooling is not Pooling.ATTENTION:
        raise ValueError(
            f"--query-learning-rate is for --pooling attention, not {args.pooling}; leave it out"
        )
    if args.teacher and not args.distillation and not args.unlabelled:
        raise ValueError(
            "a --teacher has no say at --distillation 0; give a share, or --unlabelled texts"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="offramp train",
        allow_abbrev=False,
        description="Labelled text and an encoder in, a multi-exit checkpoint out.",
        formatter_class=DefaultsFormatter,
    )
    sources = "files (.jsonl, .csv, .tsv, each also .gz; .parquet) or datasets, NAME:SPLIT"
    add = parser.add_argument_group("data").add_argument
    many: Any = {"nargs": "+", "action": "extend", "metavar": "SOURCE"}
    add("--data", **many, required=True, help=f"training {sources}")
    add("--dev", required=True, metavar="SOURCE", help="development data, to choose the epoch")
    add("--unlabelled", **many, default=[], help="texts for distillation")
    add_columns(add)
    add = parser.add_argument_group("model").add_argument
    add("--encoder", required=True, help="a directory (one of our checkpoints too) or a hub name")
    add("--teacher", type=Path, metavar="DIR", help="checkpoint whose last exit teaches every exit")
    add("--output", type=Path, metavar="DIR", required=True, help="checkpoint directory to write")
    add(
        "--exits",
        type=int,
        nargs="+",
        help="layers with an exit after them, the last among them; all by default",
    )
    add("--pooling", type=Pooling, choices=list(Pooling), default=Pooling.MEAN, help="of tokens")
    add("--max-tokens", type=int, default=128, help="token limit of a text")
    add = parser.add_argument_group("recipe").add_argument
    add("--preset", choices=list(PRESETS), default="default", help="what the options default to")
    add("--recipe", type=Recipe, choices=list(Recipe), help="which exits are trained when")
    add("--epochs", type=int, help="times through the data")
    add("--last-exit-epochs", type=int, help="of these, the last exit's alone, by mixed")
    add("--patience", type=int, help="epochs without a better one before stopping; 0 is never")
    add("--distillation", type=float, help="share of early exits' losses that the last teaches")
    add("--equilibrium", action=argparse.BooleanOptionalAction, help="even gradients of exits")
    add(
        "--separation",
        type=float,
        help="share of later exits' gradients that is dropped at each exit",
    )
    add("--batch-rows", type=int, help="texts per step")
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
