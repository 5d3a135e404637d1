"""The deployment files say what `offramp serve` understands, and agree with each other."""

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import help_of
from service import ROOT

from offramp.cli import serve_options
from offramp.server.config import ServerConfig
from offramp.server.services import SERVICES
from offramp.server.telemetry.catalog import CATALOG

DEPLOY = ROOT / "deploy"
TELEMETRY = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")


def dockerfile() -> list[tuple[str, str]]:
    """Its instructions and their arguments."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines()]
    return [(line[0], line[1]) for line in lines if line and not line[0].startswith("#")]


def arguments(name: str) -> list[str]:
    """The list in the last instruction of this name."""
    *_, last = [value for instruction, value in dockerfile() if instruction == name]
    found: list[str] = yaml.safe_load(last)
    return found


def kubernetes() -> dict[str, Any]:
    """The manifests by kind."""
    text = (DEPLOY / "kubernetes" / "offramp.yaml").read_text(encoding="utf-8")
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def container() -> dict[str, Any]:
    """The one container of the deployment."""
    (only,) = kubernetes()["Deployment"]["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


def compose() -> dict[str, Any]:
    """The compose file."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return found


def config_of(given: Sequence[str]) -> ServerConfig:
    """What the server makes of these arguments; it exits on one that it does not know."""
    config = serve_options.config_of(serve_options.parser().parse_args(given))
    shipped = {path.name for path in (ROOT / "checkpoints").iterdir() if path.is_dir()}
    assert {path.name for path in config.checkpoints} <= shipped
    return config


def port_of(config: ServerConfig) -> int:
    return int(config.address.rpartition(":")[2])


def assert_documented(names: Iterable[str]) -> None:
    """Whether docs/telemetry.md tells of every variable, spelt out or as `A_{B,C}_D`."""
    patterns = [
        re.sub(r"\\\{([^}]*)\\\}", lambda m: f"(?:{'|'.join(m[1].split(','))})", re.escape(one))
        for one in re.findall(r"OTEL_[A-Z_{},…]+", TELEMETRY)
    ]
    for name in names:
        assert any(re.fullmatch(pattern, name) for pattern in patterns), name


def test_the_image_serves_as_nobody_and_stops_on_sigterm() -> None:
    steps = dockerfile()
    names = [name for name, _ in steps]
    assert names.count("FROM") == 2
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", dict(steps)["USER"])
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert ("STOPSIGNAL", "SIGTERM") in steps
    assert arguments("ENTRYPOINT") == ["offramp", "serve"]
    config = config_of(arguments("CMD"))
    assert str(port_of(config)) in dict(steps)["EXPOSE"].split()


def test_the_image_asks_its_own_health() -> None:
    *_, check = [value for name, value in dockerfile() if name == "HEALTHCHECK"]
    command: list[str] = yaml.safe_load(check.partition("CMD")[2])
    assert command[:2] == ["offramp", "health"]
    assert {one for one in command if one.startswith("--")} <= set(
        re.findall(r"--[a-z-]+", help_of("health"))
    )
    port = port_of(config_of(arguments("CMD")))
    assert command[-1] == f"127.0.0.1:{port}"


def test_the_image_is_built_from_what_is_there() -> None:
    copied = {
        source
        for name, value in dockerfile()
        if name == "COPY" and "--from" not in value
        for source in shlex.split(value)[:-1]
    }
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source.split("/")[0] in kept, source
    packages = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    roots = set(re.findall(r'^    "(\w+)/offramp",$', packages, re.MULTILINE))
    assert len(roots) >= 7
    assert roots <= copied


def test_the_pods_flags_ports_and_probes_agree() -> None:
    pod = container()
    config = config_of(pod["args"])
    ports = {port["name"]: port["containerPort"] for port in pod["ports"]}
    assert ports["grpc"] == port_of(config)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert pod[probe]["grpc"]["port"] == ports["grpc"]
        assert pod[probe]["grpc"].get("service", "") in {"", *SERVICES}
    (port,) = kubernetes()["Service"]["spec"]["ports"]
    assert port["targetPort"] == "grpc"
    environment = {variable["name"]: variable["value"] for variable in pod["env"]}
    assert_documented(environment)
    assert int(environment["OTEL_EXPORTER_PROMETHEUS_PORT"]) == ports["metrics"]


def test_a_pod_can_write_to_tmp_and_takes_the_cores_it_asks_for() -> None:
    pod = container()
    assert pod["securityContext"]["readOnlyRootFilesystem"]
    volumes = kubernetes()["Deployment"]["spec"]["template"]["spec"]["volumes"]
    empty = {volume["name"] for volume in volumes if "emptyDir" in volume}
    assert "/tmp" in {one["mountPath"] for one in pod["volumeMounts"] if one["name"] in empty}  # noqa: S108
    config = config_of(pod["args"])
    assert config.workers * config.threads == int(pod["resources"]["requests"]["cpu"])


def test_a_pod_has_the_time_to_drain() -> None:
    spec = kubernetes()["Deployment"]["spec"]["template"]["spec"]
    config = config_of(container()["args"])
    drain = config.drain_pause + config.drain_grace
    assert config.drain_pause > 0
    assert spec["terminationGracePeriodSeconds"] > drain
    liveness = container()["livenessProbe"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] > drain
    readiness = container()["readinessProbe"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] < config.drain_pause
    user = dict(dockerfile())["USER"].split(":")[0]
    assert spec["securityContext"]["runAsUser"] == int(user)


def test_the_autoscaler_reads_a_metric_that_there_is() -> None:
    (metric,) = kubernetes()["HorizontalPodAutoscaler"]["spec"]["metrics"]
    seconds = {m.name.replace(".", "_") + "_seconds" for m in CATALOG if m.unit == "s"}
    assert metric["pods"]["metric"]["name"] in seconds


def test_compose_agrees_too() -> None:
    services = compose()["services"]
    server = services["offramp"]
    config = config_of(server["command"])
    assert server["ports"] == [f"{port_of(config)}:{port_of(config)}"]
    assert_documented(server["environment"])
    grace = int(server["stop_grace_period"].removesuffix("s"))
    assert grace > config.drain_pause + config.drain_grace
    assert (DEPLOY / server["build"]["context"] / server["build"]["dockerfile"]).exists()
    for service in services.values():
        for volume in service.get("volumes", []):
            assert (DEPLOY / volume.split(":")[0]).is_file(), volume
        assert {one["source"] for one in service.get("configs", [])} <= compose()["configs"].keys()
        assert set(service.get("depends_on", [])) <= services.keys()
    scraped = yaml.safe_load(compose()["configs"]["prometheus"]["content"])
    (target,) = scraped["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target == f"offramp:{server['environment']['OTEL_EXPORTER_PROMETHEUS_PORT']}"


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.y*ml")), ids=lambda path: path.name)
def test_every_yaml_file_is_one(path: Path) -> None:
    assert list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
