"""Simulated runs as a table and as a plot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

SHOWN = ("p50", "mean", "p99", "max", "fill", "throughput")
MANY = 10_000
COUNTED = ("late", "failed", "refused")
"""Shown where there are any, beside how many were answered."""

Row = dict[str, Any]
"""A policy at a load and its figures, by name."""


def table(rows: Sequence[Row]) -> Table:
    """A line a policy and load."""
    counted = [name for name in COUNTED if any(row[name] for row in rows)]
    counted = ["answered", *counted] if counted else []
    shown = Table(
        title="latency in the unit of the costs, throughput per unit", box=None, pad_edge=False
    )
    shown.add_column("policy", no_wrap=True)
    for column in ("load", *SHOWN, *counted):
        shown.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        numbers = [_told(row[name]) for name in SHOWN]
        counts = [str(row[name]) for name in counted]
        shown.add_row(str(row["policy"]), f"{row['load']:.3g}", *numbers, *counts)
    return shown


def _told(value: float) -> str:
    """Four digits, without an exponent."""
    return f"{value:.0f}" if value >= MANY else f"{value:.4g}"


def plot(rows: Sequence[Row], path: Path) -> None:
    """Mean and p99 latency against load, a line a policy."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra, only for this

        mpl.use("Agg")
        from matplotlib import pyplot as plt  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ValueError("--plot needs matplotlib: pip install '.[bench]'") from error
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, name in zip(axes, ("mean", "p99"), strict=True):
        for policy in dict.fromkeys(row["policy"] for row in rows):
            points = [(row["load"], row[name]) for row in rows if row["policy"] == policy]
            axis.plot(*zip(*points, strict=True), marker=".", label=policy)
        axis.set(xlabel="load", ylabel=f"{name} latency", yscale="log")
        axis.grid(visible=True, alpha=0.3)
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)
