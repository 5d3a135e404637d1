"""Draws the plots of docs/performance.md from the committed results."""

import json
from pathlib import Path

from offramp.cli.load.plot import line_plot

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
PLOTS = ROOT / "docs" / "plots"


def main() -> None:
    """Draw all."""
    PLOTS.mkdir(parents=True, exist_ok=True)
    speed = json.loads((RESULTS / "stages.json").read_text())["speed"]["runners"]
    shares = {
        name: [
            (float(tokens), 100 * found["median"])
            for tokens, found in figures["share_of_floor_by_tokens"].items()
        ]
        for name, figures in speed.items()
    }
    title = "Stage forward at full depth, share of the float32 arithmetic floor"
    plot = line_plot(title, "tokens a step", "%", shares)
    (PLOTS / "floor.svg").write_text(plot, encoding="utf-8")


if __name__ == "__main__":
    main()
