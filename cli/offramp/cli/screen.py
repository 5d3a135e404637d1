"""How `offramp watch` looks: what a person wants first, first."""

from collections.abc import Sequence
from math import isnan

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from offramp.cli.figures import Figures, Labels

BLOCKS = "▁▂▃▄▅▆▇█"
BAR = 28
PARTS = (("tokenizer", "cyan"), ("queue", "yellow"), ("compute", "green"))


def screen(title: str, figures: Figures, rates: Sequence[float], p99s: Sequence[float]) -> Group:
    """The whole picture; `rates` and `p99s` are the last minute's, oldest first."""
    ills = figures.ills()
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    run, full = figures.depth
    depth = "" if isnan(run) else f" · {run:.1f} of {full:.0f} layers"
    grid.add_row(
        _framed(f"where they exit{depth}", _exits(figures)), _framed("how full", _load(figures))
    )
    grid.add_row(
        _framed("where the time goes", _time(figures)), _framed("last minute", _trend(rates, p99s))
    )
    return Group(Rule(Text(title, "bold"), style="dim"), _headline(figures), _verdict(ills), grid)


def seconds(value: float) -> str:
    """A duration for a person."""
    if isnan(value):
        return "-"
    return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"


def share(value: float | None) -> str:
    """A share for a person."""
    return "-" if value is None or isnan(value) else f"{value:.0%}"


def _headline(figures: Figures) -> Table:
    total = "offramp.request.total.duration"
    agreement = figures.gauge("offramp.shadow.agreement", _all_requests)
    cells = [
        ("answers a second", f"{figures.answers:.0f}", "bold white"),
        ("p50", seconds(figures.quantile(total, 0.5)), "bold white"),
        ("p99", seconds(figures.quantile(total, 0.99)), "bold white"),
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


def _all_requests(labels: Labels) -> bool:
    return labels.get("offramp_exit") == "all"


def _exits(figures: Figures) -> RenderableType:
    rates = figures.exits()
    whole = sum(rates.values())
    table = Table.grid(padding=(0, 1))
    for left_at, rate in rates.items():
        part = rate / whole if whole > 0 else 0.0
        table.add_row(Text(f"exit {left_at}", "dim"), _bar(part, "yellow"), f"{part:>4.0%}")
    return table if rates else Text("no answers yet", "dim")


def _load(figures: Figures) -> Table:
    table = Table.grid(padding=(0, 1))
    for name, used, limit in (
        ("slots", "offramp.slots.used", "offramp.slots.limit"),
        ("queue", "offramp.queue.requests", "offramp.queue.limit"),
        ("memory", "offramp.device.memory.used", "offramp.device.memory.limit"),
    ):
        part = (figures.gauge(used) or 0.0) / (figures.gauge(limit) or 1.0)
        style = "red" if part > 0.8 and name != "slots" else "cyan"
        table.add_row(Text(name, "dim"), _bar(part, style), f"{part:>4.0%}")
    fill = figures.mean("offramp.step.fill.rows")
    table.add_row(
        Text("batch", "dim"), _bar(0 if isnan(fill) else fill, "cyan"), share(fill).rjust(4)
    )
    drain = figures.gauge("offramp.queue.drain.predicted") or 0.0
    table.add_row(Text("drains in", "dim"), seconds(drain), "")
    return table


def _time(figures: Figures) -> Table:
    means = [figures.mean(f"offramp.request.{part}.duration") for part, _ in PARTS]
    most = max((mean for mean in means if not isnan(mean)), default=0.0)
    table = Table.grid(padding=(0, 1))
    for (part, style), mean in zip(PARTS, means, strict=True):
        length = mean / most if most and not isnan(mean) else 0.0
        table.add_row(Text(part, "dim"), _bar(length, style), seconds(mean))
    steps = figures.rate("offramp.step.duration", series="_count")
    table.add_row(Text("steps", "dim"), f"{steps:.0f} a second", "")
    return table


def _trend(rates: Sequence[float], p99s: Sequence[float]) -> Table:
    table = Table.grid(padding=(0, 1))
    for name, values, style, shown in (
        ("answers", rates, "green", lambda rate: f"{rate:.0f}/s"),
        ("p99", p99s, "magenta", seconds),
    ):
        known = [value for value in values if not isnan(value)]
        ends = f"{shown(min(known))} to {shown(max(known))}" if known else "-"
        table.add_row(Text(name, "dim"), Text(sparkline(values), style))
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


def _bar(part: float, style: str) -> Text:
    full = round(min(max(part, 0.0), 1.0) * BAR)
    return Text("━" * full, style).append("─" * (BAR - full), "dim")


def _framed(title: str, content: RenderableType) -> Panel:
    return Panel(content, title=title, title_align="left", border_style="dim", padding=(0, 1))
