"""Answers as a table for a person: coloured in a terminal, plain when piped."""

import shutil
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text as RichText

from offramp.client import Answer, OfframpError

LABEL_STYLES = ("red", "green", "cyan", "magenta", "yellow", "blue")
PIPED_WIDTH = 120
TEXT_WIDTH = 60
LEAST_TEXT_WIDTH = 16
OTHER_COLUMNS = 46
"""Characters that the columns beside the text take, with labels of up to ten."""


def console() -> Console:
    """Standard output; wide enough for the table when it is not a terminal."""
    if sys.stdout is not None and sys.stdout.isatty():
        return Console()
    return Console(width=max(PIPED_WIDTH, shutil.get_terminal_size().columns))


def answers_table(
    rows: Iterable[tuple[str, Answer | OfframpError, float | None]], width: int
) -> Table:
    """A row a text, fit for so many characters.

    The milliseconds are as given, or the server's own where None is.
    """
    room = max(LEAST_TEXT_WIDTH, min(TEXT_WIDTH, width - OTHER_COLUMNS))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("text", max_width=room, no_wrap=True, overflow="ellipsis")
    table.add_column("label", no_wrap=True)
    table.add_column("confidence", justify="right", no_wrap=True)
    table.add_column("exit", justify="right", no_wrap=True)
    table.add_column("layers run", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    for text, outcome, milliseconds in rows:
        if isinstance(outcome, OfframpError):
            table.add_row(shown_text(text), RichText("error", style="bold red"))
            continue
        style = LABEL_STYLES[outcome.label_index % len(LABEL_STYLES)]
        shown = outcome.timing.total * 1e3 if milliseconds is None else milliseconds
        table.add_row(
            shown_text(text),
            RichText(outcome.label, style=style),
            f"{outcome.confidence:.3f}",
            str(outcome.exit),
            depth_bar(outcome.layer, outcome.layers),
            f"{shown:.1f}",
        )
    return table


def shown_text(text: str) -> RichText:
    """A text on one line, without what would command the terminal."""
    return RichText("".join(char if char.isprintable() else " " for char in text))


def depth_bar(layer: int, layers: int) -> RichText:
    """Layers run as a bar of full depth."""
    bar = RichText("●" * layer, style="yellow")
    return bar.append("·" * (layers - layer), style="dim").append(f" {layer}/{layers}")
