"""The plots of an evaluation and of a calibration, drawn without a display."""

from collections.abc import Sequence
from io import StringIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offramp.training.evaluate import Evaluation
from offramp.training.temperature import Reliability

COLOURS = ("#c2410c", "#0369a1", "#4d7c0f", "#7e22ce")
GREY = "#6b7280"


def curves(evaluation: Evaluation, *, clock: bool = False) -> Figure:
    """Accuracy and agreement over mean layers, a line a rule, a band for the checkpoint's own.

    With `clock`, beside them what `on_the_clock` draws.
    """
    panels = 3 if clock else 2
    figure = Figure(figsize=(5 * panels, 4.2), layout="constrained")
    accuracy, agreement, *rest = figure.subplots(1, panels)
    for colour, rule in zip(COLOURS, evaluation.rules, strict=True):
        layers = [point.mean_layers for point in rule.points]
        own = rule.kind is evaluation.rule
        width, place = (2.4, 4) if own else (1.3, 3)
        style = {"color": colour, "lw": width, "zorder": place, "label": str(rule.kind)}
        accuracy.plot(layers, [point.accuracy for point in rule.points], **style)
        agreement.plot(layers, [point.agreement for point in rule.points], **style)
        if own:
            bands = (
                ([p.accuracy_interval for p in rule.points], accuracy),
                (
                    [p.agreement_interval for p in rule.points],
                    agreement,
                ),
            )
            for band, axes in bands:
                low, high = zip(*band, strict=True)
                axes.fill_between(layers, low, high, color=colour, alpha=0.12, lw=0)
    exits = (evaluation.exit_layers, evaluation.exit_accuracies)
    accuracy.plot(*exits, "o", color=GREY, ms=5, label="everyone at this exit")
    accuracy.axhline(evaluation.accuracy_full, color=GREY, lw=1, ls=":")
    accuracy.plot(
        evaluation.default.mean_layers,
        evaluation.default.accuracy,
        "*",
        color="black",
        ms=13,
        label="default threshold",
    )
    accuracy.set_ylabel("accuracy")
    agreement.set_ylabel("agreement with full depth")
    for axes in (accuracy, agreement):
        axes.set_xlabel("mean layers run")
        _clean(axes)
    accuracy.legend(frameon=False, fontsize=9)
    for axes in rest:
        _clock(axes, evaluation)
    return figure


def on_the_clock(evaluation: Evaluation) -> Figure:
    """Wall-clock speedup over layer speedup of each rule, bars from the lowest to the highest."""
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    _clock(figure.subplots(), evaluation)
    return figure


def reliability(
    layers: Sequence[int], before: Sequence[Reliability], after: Sequence[Reliability]
) -> Figure:
    """Accuracy over confidence at every exit, after these layers, before and after calibration."""
    exits = len(after)
    columns = min(exits, 6)
    rows = -(-exits // columns)
    figure = Figure(figsize=(1.9 * columns, 2.3 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten()
    pairs = zip(layers, before, after, strict=True)
    for axes, (layer, raw, fitted) in zip(grid, pairs, strict=False):
        axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
        _bins(axes, raw, "#d1d5db", "before")
        _bins(axes, fitted, COLOURS[0], "after")
        axes.set_title(f"layer {layer}: ECE {raw.ece:.3f} → {fitted.ece:.3f}", fontsize=8)
        _clean(axes)
    lowest = min(bin_.confidence for one in (*before, *after) for bin_ in one.bins)
    grid[0].set_xlim(max(0.0, lowest - 0.05), 1.01)
    grid[0].legend(frameon=False, fontsize=8)
    grid[0].set_ylabel("accuracy")
    figure.supxlabel("confidence", fontsize=9)
    return figure


def exits_by_group(shares: Sequence[tuple[str, Sequence[float]]], layers: Sequence[int]) -> Figure:
    """Where the rows of each group leave: a bar of shares, from the first exit to the last."""
    figure = Figure(figsize=(7, 0.5 + 0.34 * len(shares)), layout="constrained")
    axes = figure.subplots()
    for place, (_, parts) in enumerate(reversed(shares)):
        left = 0.0
        for index, share in enumerate(parts):
            depth = 0.15 + 0.8 * index / max(1, len(layers) - 1)
            axes.barh(place, share, left=left, color=COLOURS[1], alpha=depth, height=0.75)
            if share > 0.06:
                ink = "white" if depth > 0.5 else "black"
                axes.text(
                    left + share / 2,
                    place,
                    str(layers[index]),
                    ha="center",
                    va="center",
                    color=ink,
                    fontsize=8,
                )
            left += share
    names = [name for name, _ in reversed(shares)]
    axes.set_yticks(range(len(shares)), names, fontsize=8, parse_math=False)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of texts, by the layer they leave after", fontsize=8)
    _clean(axes)
    return figure


def svg(figure: Figure) -> str:
    """The figure as an `<svg>` element, to stand in a page."""
    file = StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _bins(axes: Axes, measured: Reliability, colour: str, label: str) -> None:
    confidences = [bin_.confidence for bin_ in measured.bins]
    accuracies = [bin_.accuracy for bin_ in measured.bins]
    sizes = [4 + 60 * bin_.share for bin_ in measured.bins]
    axes.plot(confidences, accuracies, color=colour, lw=1)
    axes.scatter(confidences, accuracies, s=sizes, color=colour, label=label)


def _clock(axes: Axes, evaluation: Evaluation) -> None:
    for colour, rule in zip(COLOURS, evaluation.rules, strict=True):
        timings = sorted(rule.timings, key=lambda timing: timing.layer_speedup)
        middles = [timing.wall_clock_speedup for timing in timings]
        axes.errorbar(
            [timing.layer_speedup for timing in timings],
            middles,
            (
                [timing.wall_clock_speedup - timing.lowest for timing in timings],
                [timing.highest - timing.wall_clock_speedup for timing in timings],
            ),
            color=colour,
            lw=2.4 if rule.kind is evaluation.rule else 1.3,
            elinewidth=0.8,
            marker="o",
            ms=3,
            label=str(rule.kind),
        )
    most = max(timing.layer_speedup for rule in evaluation.rules for timing in rule.timings)
    axes.plot([1, most], [1, most], color=GREY, lw=1, ls=":", label="if nothing but layers cost")
    axes.set_xlabel("layer speedup of the timed texts")
    axes.set_ylabel("wall-clock speedup")
    _clean(axes)
    axes.legend(frameon=False, fontsize=9)


def _clean(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(color="#e5e7eb", lw=0.6)
    axes.set_axisbelow(True)
