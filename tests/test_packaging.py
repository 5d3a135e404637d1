"""The wheel: what is in it, and that the client in it needs nothing that computes."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from service import ROOT

CLIENT_ALONE = """
import sys
from importlib.machinery import PathFinder

class ClientAlone(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        extras = {"torch", "numpy", "transformers", "tokenizers", "safetensors", "uvloop", "rich",
                  "opentelemetry", "prometheus_client", "grpc_health", "grpc_reflection"}
        return None if name.split(".")[0] in extras else super().find_spec(name, path, target)

sys.meta_path[:] = [ClientAlone if f is PathFinder else f for f in sys.meta_path]
"""
"""The start of a program that finds the dependencies of the client alone."""


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    target = tmp_path_factory.mktemp("wheel")
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(target), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_packages_and_nothing_else(names: set[str]) -> None:
    files = {name for name in names if ".dist-info/" not in name}
    assert all(name.startswith("offramp/") for name in files)
    assert not any("test" in name or "__pycache__" in name for name in files)
    assert "offramp/__init__.py" not in files
    packages = {name.split("/")[1] for name in files}
    assert {"client", "server", "scheduler", "model", "training", "cli", "v1"} <= packages
    for package in packages:
        assert f"offramp/{package}/py.typed" in files
    assert {"offramp/v1/classification.proto", "offramp/v1/classification_pb2.pyi"} <= files


def test_the_client_depends_on_grpc_and_protobuf_alone() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {requirement.split(">=")[0] for requirement in project["dependencies"]}
    assert needed == {"grpcio", "protobuf", "googleapis-common-protos"}


def test_what_is_installed_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    pinned = {line.split("==")[0] for line in pins.splitlines() if "==" in line}
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *(one for extra in extras for one in extra)]
    named = {one.split(";")[0].split(">=")[0].strip().lower() for one in requirements}
    assert {name for name in named if not name.startswith("offramp[")} - pinned == set()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "--checkpoint", "x"], "pip install '.[server]'"),
        (["train"], "pip install '.[train]'"),
        (["health"], "pip install '.[cli]'"),
        (["watch", "localhost"], "pip install '.[cli]'"),
        (["bench", "--texts", "x"], "pip install '.[bench]'"),
        (["classify", "fine", "--json"], "pip install '.[server]', or give --address"),
        (["classify", "fine", "--address", "127.0.0.1:1"], "pip install '.[cli]', or give"),
        (["classify", "fine", "--address", "127.0.0.1:1", "--json"], "Connection refused"),
    ],
)
def test_the_client_alone_says_what_more_it_needs(arguments: list[str], told: str) -> None:
    program = f"{CLIENT_ALONE}\nfrom offramp.cli.main import main\nsys.exit(main({arguments!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
