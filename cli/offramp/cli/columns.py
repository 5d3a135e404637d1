"""Which columns of labelled text a verb reads: the same options for each that reads any."""

import argparse
from collections.abc import Callable

from offramp.training.records import Columns


def add_columns(add: Callable[..., object]) -> None:
    """Add the options that `columns_of` reads, by a parser's `add_argument`."""
    columns = Columns()
    for option, default, of in (
        ("--text-column", columns.text, "of the text"),
        ("--pair-column", columns.text_pair, "of a second text, where there is one"),
        ("--label-column", columns.label, "of the label"),
    ):
        add(option, default=default, metavar="NAME", help=f"{of} (default: %(default)s)")


def columns_of(args: argparse.Namespace) -> Columns:
    """The columns that were asked for."""
    return Columns(args.text_column, args.pair_column, args.label_column)


def columns_told(args: argparse.Namespace) -> bool:
    """Whether any was asked for but those that there are by default."""
    return columns_of(args) != Columns()
