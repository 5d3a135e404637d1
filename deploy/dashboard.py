"""The Grafana dashboard made of the panels."""

import re
from collections.abc import Iterable
from typing import Any

from panels import MODEL, RATE, ROWS, Panel

from offramp.server.telemetry.catalog import BY_NAME

WIDTH = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS:
        panels.append(
            {"type": "row", "title": title, "gridPos": _place(0, top, WIDTH, 1), "panels": []}
        )
        top += 1
        left = 0
        for panel in row:
            if left + panel.width > WIDTH:
                left, top = 0, top + panel.height
            panels.append(_panel(panel, left, top))
            left += panel.width
        top += row[-1].height
    for number, made in enumerate(panels, start=1):
        made["id"] = number
    model = f"label_values({BY_NAME['offramp.slots.limit'].prometheus}, offramp_model)"
    return {
        "uid": "offramp",
        "title": "offramp",
        "tags": ["offramp"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "graphTooltip": 1,
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                {
                    "name": "model",
                    "type": "query",
                    "datasource": SOURCE,
                    "definition": model,
                    "query": {"query": model, "refId": "model"},
                    "includeAll": True,
                    "allValue": ".*",
                    "multi": True,
                    "current": {"text": "All", "value": "$__all"},
                    "refresh": 2,
                },
            ]
        },
        "panels": panels,
    }


def expressions() -> Iterable[str]:
    """Every query, as Prometheus would be asked for all models over a minute."""
    for _, row in ROWS:
        for panel in row:
            for query, _ in panel.queries:
                yield _named(query).replace(RATE, "1m").replace("$model", ".*")


def _named(query: str) -> str:
    """The query with Prometheus's names for the catalog's; raises KeyError for others."""
    return re.sub(r"\{([a-z_]+(?:\.[a-z_]+)+)\}", lambda m: BY_NAME[m[1]].prometheus, query)


def _panel(panel: Panel, left: int, top: int) -> dict[str, Any]:
    colours = [{"color": panel.colours[0], "value": None}] + [
        {"color": colour, "value": value}
        for colour, value in zip(panel.colours[1:], panel.steps, strict=False)
    ]
    custom: dict[str, Any] = {
        "fillOpacity": 40 if panel.stacked else 8,
        "lineWidth": 1,
        "showPoints": "never",
    }
    if panel.stacked:
        custom["stacking"] = {"mode": "normal"}
    timeseries = panel.kind == "timeseries"
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": colours},
    }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": _place(left, top, panel.width, panel.height),
        "fieldConfig": {
            "defaults": defaults | ({"custom": custom} if timeseries else {}),
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}}
        if timeseries
        else {
            "graphMode": "area",
            "colorMode": "value",
            "reduceOptions": {"calcs": ["lastNotNull"]},
        },
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": _named(query),
                "legendFormat": _legend(panel, query, legend),
            }
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }


def _legend(panel: Panel, query: str, legend: str) -> str:
    """A gauge has a series for each server and model, which are not added up."""
    if "(" in query:
        return legend or panel.title
    parts = ("{{instance}}", "{{offramp_model}}" if MODEL in query else "", legend)
    return " ".join(filter(None, parts))


def _place(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}
