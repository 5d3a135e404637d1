"""Dashboard and alert rules, against the catalog, a real Prometheus and promtool."""

import asyncio
import json
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import make
import pytest
from dashboard import expressions
from service import PATIENCE, ROOT, send_everything, word_service

from offramp.server.statuses import TABLE
from offramp.server.telemetry.catalog import CATALOG, Kind
from offramp.server.telemetry.setup import configure

RULES = ROOT / "deploy" / "prometheus"
SERIES = {
    name
    for metric in CATALOG
    for name in (
        [f"{metric.prometheus}_{part}" for part in ("bucket", "sum", "count")]
        if metric.kind is Kind.HISTOGRAM
        else [metric.prometheus]
    )
}
LABELS = {attribute.replace(".", "_") for metric in CATALOG for attribute in metric.attributes}
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="prometheus and promtool are not installed; Debian has them: apt-get install prometheus",
)


def rules() -> Iterator[str]:
    """The expressions of the alert rules, each on its own line or a block."""
    text = (RULES / "rules.yml").read_text(encoding="utf-8")
    found = re.findall(r"expr: (?:\|\n((?: {10,}.*\n)+)|(.*)\n)", text)
    yield from ("".join(pair) for pair in found)


@pytest.mark.parametrize("expression", [*expressions(), *rules()])
def test_every_query_asks_for_metrics_and_labels_that_exist(expression: str) -> None:
    names = set(re.findall(r"\b(?:offramp|rpc|error)_\w+", expression))
    assert names & SERIES or "up{" in expression
    assert names <= SERIES | LABELS


def test_there_are_the_alerts_that_were_asked_for() -> None:
    text = (RULES / "rules.yml").read_text(encoding="utf-8")
    alerts = set(re.findall(r"alert: Offramp(\w+)", text))
    assert alerts == {
        "Errors", "Failures", "Slow", "Saturated", "Refusing", "Invalid", "Drift", "Stalled",
        "SwapFailed", "Down", "Gone", "Restarting",
    }  # fmt: skip
    assert len(list(rules())) == len(alerts)


def test_the_alerts_ask_for_reasons_that_errors_have() -> None:
    asked = set(re.findall(r'error_type\W+"(\w+)"', "".join(rules())))
    assert asked == {"DEADLINE_EXCEEDED"}
    assert asked <= {row.reason for row in TABLE.values()}


def test_a_collector_and_the_sdk_append_the_same_units() -> None:
    for metric in CATALOG:
        assert metric.unit in {"s", "By"} or re.fullmatch(r"\{\w+\}|1", metric.unit), metric.name
        assert metric.kind is Kind.HISTOGRAM or metric.unit != "1", f"{metric.name}: _ratio"


def test_dashboard_and_table_are_what_the_catalog_makes() -> None:
    for path, text in make.outputs().items():
        assert path.read_text(encoding="utf-8") == text, f"run deploy/make.py: {path.name}"


def test_panels_do_not_overlap() -> None:
    board = json.loads(make.DASHBOARD.read_text(encoding="utf-8"))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


@needs_prometheus
@pytest.mark.parametrize(
    "check", [("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")]
)
def test_promtool_accepts_the_rules_and_their_tests(check: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["promtool", *check],  # noqa: S607
        cwd=RULES,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@asynccontextmanager
async def scraping(directory: Path, port: int) -> AsyncGenerator[str]:
    """A real Prometheus that scrapes this port five times a second; gives its address."""
    config = directory / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}\n"
        f"rule_files: ['{RULES / 'rules.yml'}']\n"
        "scrape_configs:\n"
        "- {job_name: offramp, static_configs: [{targets: ['127.0.0.1:%d']}]}\n" % port
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        await process.wait()


async def ask(prometheus: str, path: str, **query: str) -> dict[str, Any]:
    """An answer of its API; an empty one while it starts."""
    url = f"{prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}"

    def fetch() -> dict[str, Any]:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as response:  # noqa: S310
                found: dict[str, Any] = json.load(response)
                return found
        except urllib.error.HTTPError as error:
            if error.code == 503:
                return {"data": {"result": []}}
            raise AssertionError(f"{query}: {error.read().decode()}") from error
        except OSError:
            return {"data": {"result": []}}

    return await asyncio.to_thread(fetch)


@needs_prometheus
async def test_a_real_prometheus_scrapes_the_server_and_answers_every_query(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
    telemetry = configure()
    assert telemetry.scrape_port is not None
    async with (
        word_service(tmp_path, telemetry=telemetry, shadow_share=1.0) as service,
        scraping(tmp_path, telemetry.scrape_port) as prometheus,
        asyncio.timeout(PATIENCE),
    ):
        await send_everything(service)
        total = "sum(offramp_exits_total) and on () changes(offramp_layers_run_total[1m]) > 0"
        sent = 0
        while not (await ask(prometheus, "query", query=total))["data"]["result"]:
            sent += len([a async for a in service.client.classify_many(["easy", "film"])])
        counted = await ask(prometheus, "query", query="sum(offramp_exits_total)")
        (found,) = counted["data"]["result"]
        assert 21 < int(found["value"][1]) <= 21 + sent
        empty = []
        for expression in expressions():
            answer = await ask(prometheus, "query", query=expression)
            assert answer["status"] == "success"
            if not answer["data"]["result"]:
                empty.append(expression)
        assert not empty
        groups = (await ask(prometheus, "rules"))["data"]["groups"]
        assert all(rule["health"] != "err" for group in groups for rule in group["rules"])
