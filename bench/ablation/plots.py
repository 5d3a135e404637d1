"""The pictures of docs/scheduler.md from the committed results."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
SCHEDULER = HERE.parent / "scheduler"
COLOURS = {
    "adaptive": "tab:red",
    "drain": "tab:gray",
    "fullest": "tab:blue",
    "square-root": "tab:green",
    "remaining-work": "tab:purple",
    "oldest": "tab:orange",
    "threshold": "tab:brown",
    "catch-up": "tab:olive",
}


def latency(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Mean and p99 against load, a column a cost shape, as multiples of ours."""
    shapes = list(dict.fromkeys((row["fixed_cost"], row["max_rows"]) for row in rows))
    figure, axes = plt.subplots(2, len(shapes), figsize=(11, 6), sharex=True, layout="constrained")
    for column, shape in enumerate(shapes):
        for line, key in enumerate(("mean", "p99")):
            axis = axes[line][column]
            for name, colour in COLOURS.items():
                points = [
                    (row["load"], row[key])
                    for row in rows
                    if (row["fixed_cost"], row["max_rows"]) == shape and row["rule"] == name
                ]
                width = 2.2 if name == "adaptive" else 1.0
                axis.plot(
                    *zip(*points, strict=True), color=colour, label=name, marker=".", lw=width
                )
            axis.set(yscale="log", ylabel=f"{key} latency (rows)")
            axis.grid(visible=True, alpha=0.3)
        axes[0][column].set_title(f"a/c = {shape[0]:g}, B = {shape[1]}")
        axes[1][column].set_xlabel("load, share of E (a/B + c)")
    axes[0][0].legend(fontsize="x-small")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def optimum(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Mean latency over the solved optimum, by instance."""
    labels = [f"{row['fixed_cost']:g}\n{row['load']:g}" for row in rows]
    figure, axis = plt.subplots(figsize=(8, 3.5), layout="constrained")
    for name in ("fullest", "square-root", "remaining-work", "adaptive"):
        axis.plot(
            labels,
            [row["over_optimum"][name] for row in rows],
            marker="o",
            color=COLOURS[name],
            label=name,
        )
    axis.axhline(1.0, color="black", lw=0.8)
    axis.set(xlabel="a/c over load", ylabel="mean latency over the optimum", ylim=(0.98, 1.3))
    axis.grid(visible=True, alpha=0.3)
    axis.legend(fontsize="small")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def sweep(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Throughput over no exits against the exit rate, the worst and best of all limits."""
    figure, axis = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for shape, colour in ((64.0, "tab:red"), (8.0, "tab:purple"), (0.5, "tab:blue")):
        rates = sorted({row["exit_rate"] for row in rows})
        of_rate = [
            [
                row["over_no_exits"]
                for row in rows
                if row["fixed_cost"] == shape and row["exit_rate"] == rate
            ]
            for rate in rates
        ]
        low, high = [min(values) for values in of_rate], [max(values) for values in of_rate]
        axis.fill_between(rates, low, high, color=colour, alpha=0.25, label=f"a/c = {shape:g}")
        axis.plot(rates, low, color=colour)
    axis.axhline(1.0, color="black", lw=0.8)
    axis.set(xlabel="share that leaves at each exit", ylabel="throughput over no exits")
    axis.grid(visible=True, alpha=0.3)
    axis.legend(fontsize="small")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main() -> None:
    """Draw all."""
    cells = json.loads((HERE / "results.json").read_text(encoding="utf-8"))["rows"]
    latency(cells, HERE / "latency.png")
    optimum(json.loads((HERE / "small.json").read_text(encoding="utf-8")), HERE / "small.png")
    worst = json.loads((SCHEDULER / "sweep.json").read_text(encoding="utf-8"))["rows"]
    sweep(worst, SCHEDULER / "sweep.png")


if __name__ == "__main__":
    main()
