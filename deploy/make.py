"""Writes what follows from the metric catalog: the table in docs/telemetry.md, the dashboard."""

import argparse
import json
import sys
from pathlib import Path

from dashboard import dashboard

from offramp.server.telemetry.catalog import CATALOG, Metric

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "telemetry.md"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
BEGIN, END = "<!-- table: written by deploy/make.py from the catalog -->\n", "<!-- end of table -->"


def table() -> str:
    """The catalog as a table."""
    head = "| metric | kind | unit | attributes | meaning |\n|---|---|---|---|---|\n"
    return head + "".join(map(_row, CATALOG))


def document() -> str:
    """docs/telemetry.md with the table as it must be."""
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


def outputs() -> dict[Path, str]:
    """Every file and what must be in it."""
    return {DOCUMENT: document(), DASHBOARD: json.dumps(dashboard(), indent=1) + "\n"}


def main() -> int:
    """Write the files, or with --check say which differ; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if one differs")
    check = parser.parse_args().check
    stale = [
        path
        for path, text in outputs().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        if check:
            print(f"{path.relative_to(ROOT)} is not what deploy/make.py writes", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(outputs()[path], encoding="utf-8")
    return int(check and bool(stale))


def _row(metric: Metric) -> str:
    attributes = ", ".join(f"`{name}`" for name in metric.attributes)
    cells = (f"`{metric.name}`", metric.kind, f"`{metric.unit}`", attributes, metric.description)
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    sys.exit(main())
