"""The collector's file holds together and with the servers and compose; no collector is at hand."""

import re
from typing import Any

import yaml
from service import ROOT

DEPLOY = ROOT / "deploy"
TEXT = (DEPLOY / "collector" / "collector.yaml").read_text(encoding="utf-8")
CONFIG: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
PARTS = ("receivers", "processors", "exporters")
PIPELINES: dict[str, dict[str, list[str]]] = CONFIG["service"]["pipelines"]


def test_pipelines_use_what_is_defined_and_all_of_it() -> None:
    for part in PARTS:
        used = {name for pipeline in PIPELINES.values() for name in pipeline[part]}
        assert used == CONFIG[part].keys()
    assert set(CONFIG["service"]["extensions"]) == CONFIG["extensions"].keys()
    assert CONFIG.keys() == {*PARTS, "extensions", "service"}


def test_every_signal_has_a_pipeline_that_spares_memory_first_and_batches_last() -> None:
    assert PIPELINES.keys() == {"metrics", "traces", "logs"}
    for pipeline in PIPELINES.values():
        assert pipeline["receivers"] == ["otlp"]
        assert pipeline["processors"][0] == "memory_limiter"
        assert pipeline["processors"][-1] == "batch"


def test_servers_find_its_port_and_it_finds_where_traces_go() -> None:
    endpoint = SERVICES["offramp"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    port = CONFIG["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].rpartition(":")[2]
    assert endpoint == f"http://collector:{port}"
    assert set(re.findall(r"\$\{env:(\w+)\}", TEXT)) == SERVICES["collector"]["environment"].keys()
    (mounted,) = SERVICES["collector"]["volumes"]
    source, target, _ = mounted.split(":")
    assert (DEPLOY / source).samefile(DEPLOY / "collector" / "collector.yaml")
    assert SERVICES["collector"]["command"] == [f"--config={target}"]
    host, _, _ = SERVICES["collector"]["environment"]["OFFRAMP_TRACES_ENDPOINT"].partition(":")
    assert host in SERVICES


def test_no_two_of_its_ports_are_the_same() -> None:
    ports = re.findall(r'endpoint: "0\.0\.0\.0:(\d+)"', TEXT)
    assert len(ports) == len(set(ports)) == 4


def test_prometheus_is_told_to_keep_the_labels_of_the_servers() -> None:
    shown = "".join(re.findall(r"^# ((?: {4}.*)\n)", TEXT, re.MULTILINE))
    (scrape,) = yaml.safe_load(shown)["scrape_configs"]
    assert scrape["honor_labels"] is True
    assert scrape["job_name"] == "offramp"  # the job that OfframpDown asks for
    (target,) = scrape["static_configs"][0]["targets"]
    port = CONFIG["exporters"]["prometheus"]["endpoint"].rpartition(":")[2]
    assert target == f"collector:{port}"
    assert "collector" in SERVICES
