"""Simulated runs as a table and as a plot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

SHOWN = ("p50", "mean", "p99", "max", "fill", "throughput")

Row = dict[str, Any]
"""A policy at a load and its figures, by name."""


def table(rows: Sequence[Row]) -> Table:
    """A line a policy and load."""
    shown = Table(title="latency in the unit of the costs, throughput per unit")
    for column in ("policy", "load", *SHOWN, "late", "refused"):
        shown.add_column(column, justify="left" if column == "policy" else "right")
    for row in rows:
        latencies = [f"{row[name]:.4g}" for name in SHOWN]
        counts = [str(row["late"]), str(row["refused"])]
        shown.add_row(str(row["policy"]), f"{row['load']:.3g}", *latencies, *counts)
    return shown


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
