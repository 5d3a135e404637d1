"""Line plots as SVG, for the eye and for committed pages; no library draws them."""

import html
import math
from collections.abc import Mapping, Sequence

from offramp.cli.load.report import percentile
from offramp.cli.load.run import Sample

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 28, 44
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2", "#9c6b4e", "#777777")
PERCENTILES = (*(i / 200 for i in range(1, 200)), 0.999)

Points = Sequence[tuple[float, float]]


def line_plot(
    title: str, x_label: str, y_label: str, lines: Mapping[str, Points], *, log_y: bool = False
) -> str:
    """An SVG of named lines, of finite points (positive ones on a log axis).

    Raises ValueError if none remains.
    """
    drawn = {
        name: [
            (x, y) for x, y in points if math.isfinite(x) and math.isfinite(y) and _fit(y, log_y)
        ]
        for name, points in lines.items()
    }
    everything = [point for points in drawn.values() for point in points]
    if not everything:
        raise ValueError("there is nothing to plot")
    x_most = max(x for x, _ in everything) or 1.0
    y_ticks = (
        _log_ticks([y for _, y in everything]) if log_y else _ticks(max(y for _, y in everything))
    )
    low, high = (y_ticks[0], y_ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        share = math.log(y / low) / math.log(high / low) if log_y else (y - low) / (high - low)
        across = LEFT + x / x_most * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="16" font-size="13">{html.escape(title)}</text>',
        f'<text x="{LEFT}" y="{HEIGHT - 8}">{html.escape(x_label)}</text>',
        f'<text x="14" y="{HEIGHT - BOTTOM}" transform="rotate(-90 14 {HEIGHT - BOTTOM})">'
        f"{html.escape(y_label)}</text>",
    ]
    for tick in y_ticks:
        _, y = place(0, tick)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(x_most):
        if tick <= x_most:
            x, _ = place(tick, low)
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}">{tick:g}</text>')
    for index, (name, points) in enumerate(drawn.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        below = TOP + 16 * index
        parts.append(
            f'<path d="M{WIDTH - RIGHT + 10} {below}h16" stroke="{colour}" stroke-width="3"/>'
        )
        parts.append(f'<text x="{WIDTH - RIGHT + 30}" y="{below + 4}">{html.escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def latency_plot(title: str, runs: Mapping[str, Sequence[Sample]]) -> str:
    """Latency by percentile of each run, the way in which tails are seen."""
    lines: dict[str, Points] = {}
    for name, samples in runs.items():
        ascending = sorted(sample.latency * 1e3 for sample in samples if not sample.error)
        lines[name] = [(share * 100, percentile(ascending, share)) for share in PERCENTILES]
    return line_plot(title, "percentile", "ms from due to done", lines, log_y=True)


def _fit(value: float, log: bool) -> bool:  # noqa: FBT001
    return value > 0 or not log


def _ticks(most: float) -> list[float]:
    """Round steps from 0 to at least `most`, five or so."""
    raw = most / 5 or 1.0
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
    return [step * i for i in range(math.ceil(most / step - 1e-9) + 1)]


def _log_ticks(values: Sequence[float]) -> list[float]:
    """Powers of ten around all values."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]
