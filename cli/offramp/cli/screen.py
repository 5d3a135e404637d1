"""How `offramp watch` looks: what a person wants first, first."""

from collections.abc import Iterator, Sequence
from math import isnan

from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from offramp.cli.figures import Figures, Test

BLOCKS = "▁▂▃▄▅▆▇█"
TOTAL = "offramp.request.total.duration"
PARTS = (("tokenizer", "cyan"), ("queue", "yellow"), ("compute", "green"))


def first_screen(title: str, ills: Sequence[str]) -> Group:
    """The picture as long as there are no figures."""
    return Group(_head(title), _verdict(ills) if ills else Text("a second look comes", "dim"))


def screen(
    title: str,
    figures: Figures,
    rates: Sequence[float],
    p99s: Sequence[float],
    ills: Sequence[str],
) -> Group:
    """The whole picture; `rates` and `p99s` are the last minute's, oldest first; what is wrong."""
    run, full = figures.depth
    depth = "" if isnan(run) else f" · {run:.1f} of {full:.0f} layers"
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(
        *_framed((f"where they exit{depth}", _exits(figures)), ("how full", _load(figures)))
    )
    grid.add_row(
        *_framed(("where the time goes", _time(figures)), ("last minute", _trend(rates, p99s)))
    )
    return Group(_head(title), _headline(figures), _verdict(ills), grid)


def seconds(value: float) -> str:
    """A duration for a person."""
    if isnan(value):
        return "-"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.0f} ms" if value >= 0.1 else f"{value * 1e3:.1f} ms"


def share(value: float | None) -> str:
    """A share for a person."""
    return "-" if value is None or isnan(value) else f"{value:.0%}"


def of_priority(name: str) -> Test:
    """The series of this priority."""
    return lambda labels: labels.get("offramp_priority") == name


def _head(title: str) -> Rule:
    return Rule(Text(title, "bold"), style="dim")


def _headline(figures: Figures) -> Table:
    agreement = figures.agreement
    first = next(iter(figures.priorities()), "")
    p50, p99 = (figures.quantile(TOTAL, at, of_priority(first)) for at in (0.5, 0.99))
    cells = [
        ("answers/s", f"{figures.answers:.0f}", "bold white"),
        (f"p50 {first}".strip(), seconds(p50), "bold white"),
        (f"p99 {first}".strip(), seconds(p99), "bold white"),
        ("layers saved", share(figures.saved), "bold green"),
        ("queue", f"{figures.gauge('offramp.queue.requests') or 0:.0f}", "bold white"),
    ]
    if agreement is not None:
        style = "bold red" if figures.gauge("offramp.shadow.drift") else "bold green"
        cells.append(("agreement", f"{agreement:.1%}", style))
    table = Table.grid(expand=True, padding=(1, 0))
    for _ in cells:
        table.add_column(justify="center", ratio=1)
    table.add_row(
        *[Text.assemble((value, style), "\n", (name, "dim")) for name, value, style in cells]
    )
    return table


def _bars() -> Table:
    """A table of names, bars as long as there is room, and numbers."""
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(style="dim")
    table.add_column(ratio=1)
    table.add_column(justify="right")
    return table


def _exits(figures: Figures) -> Table:
    rates = figures.exits()
    whole = sum(rates.values())
    table = _bars()
    for left_at, rate in rates.items():
        part = rate / whole if whole > 0 else 0.0
        table.add_row(f"exit {left_at}", _bar(part, "yellow"), share(part))
    if not rates:
        table.add_row("no answers yet")
    return table


def _load(figures: Figures) -> Table:
    table = _bars()
    for name, part in (
        ("slots", _filled(figures, "offramp.slots.used", "offramp.slots.limit")),
        ("queue", _filled(figures, "offramp.queue.requests", "offramp.queue.limit")),
        ("memory", figures.memory),
    ):
        style = "red" if part > 0.8 and name != "slots" else "cyan"
        table.add_row(name, _bar(part, style), share(part))
    fill = figures.mean("offramp.step.fill.rows")
    table.add_row("batch", _bar(0 if isnan(fill) else fill, "cyan"), share(fill))
    table.add_row("drains", Text(f"in {seconds(figures.drain)}"), "")
    return table


def _filled(figures: Figures, used: str, limit: str) -> float:
    return (figures.gauge(used) or 0.0) / (figures.gauge(limit) or 1.0)


def _time(figures: Figures) -> Table:
    means = [figures.mean(f"offramp.request.{part}.duration") for part, _ in PARTS]
    most = max((mean for mean in means if not isnan(mean)), default=0.0)
    table = _bars()
    for (part, style), mean in zip(PARTS, means, strict=True):
        length = mean / most if most and not isnan(mean) else 0.0
        table.add_row(part, _bar(length, style), seconds(mean))
    for name in figures.priorities():
        p50, p99 = (figures.quantile(TOTAL, at, of_priority(name)) for at in (0.5, 0.99))
        table.add_row(name, Text(f"p50 {seconds(p50)}"), f"p99 {seconds(p99)}")
    steps = figures.rate("offramp.step.duration", series="_count")
    table.add_row("steps", Text(f"{steps:.0f} a second"), "")
    return table


def _trend(rates: Sequence[float], p99s: Sequence[float]) -> Table:
    table = Table.grid(padding=(0, 1))
    for name, values, style, shown in (
        ("answers", rates, "green", lambda rate: f"{rate:.0f}/s"),
        ("p99", p99s, "magenta", seconds),
    ):
        known = [value for value in values if not isnan(value)]
        ends = f"{shown(min(known))} to {shown(max(known))}" if known else "-"
        table.add_row(Text(name, "dim"), Text(sparkline(values), style, no_wrap=True))
        table.add_row("", Text(ends, "dim"))
    return table


def _verdict(ills: Sequence[str]) -> Panel:
    if not ills:
        return Panel(Text("nothing is wrong", "green"), border_style="green")
    return Panel(Text("\n".join(ills), "bold red"), title="wrong", border_style="red")


def sparkline(values: Sequence[float]) -> str:
    """One block a value, as high as its share of the largest; a gap where there is none."""
    largest = max((value for value in values if not isnan(value)), default=0.0)
    if largest <= 0:
        return ""
    top = len(BLOCKS) - 1
    return "".join(" " if isnan(v) else BLOCKS[round(max(v, 0) / largest * top)] for v in values)


def _bar(part: float, style: str) -> ProgressBar:
    full = min(max(part, 0.0), 1.0)
    return ProgressBar(1.0, full, style="grey23", complete_style=style, finished_style=style)


def _framed(*panels: tuple[str, Table]) -> Iterator[Panel]:
    """Panels of a row, all of the same height."""
    rows = max(content.row_count for _, content in panels)
    for title, content in panels:
        yield Panel(
            content,
            title=title,
            title_align="left",
            border_style="dim",
            padding=(0, 1),
            height=rows + 2,
        )
