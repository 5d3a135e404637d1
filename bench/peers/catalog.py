"""The peers: what each needs, how it is installed, started and called."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import adapters

from offramp.cli.load.target import Target

HERE = Path(__file__).parent
SERVERS = HERE / "servers"
FORWARD = ("onnxruntime", "tokenizers", "numpy")


@dataclass(frozen=True, slots=True)
class Peer:
    """A server: what it needs, how it starts on a port, how it is called."""

    environment: str
    packages: tuple[str, ...]
    command: Callable[[Path, int], Sequence[str]]
    target: Callable[[str], Target]


def _script(name: str, *arguments: str) -> Callable[[Path, int], Sequence[str]]:
    return lambda bin_, port: [
        str(bin_ / "python"),
        str(SERVERS / name),
        "--port",
        str(port),
        *arguments,
    ]


def _bentoml(bin_: Path, port: int) -> Sequence[str]:
    return [
        str(bin_ / "bentoml"),
        "serve",
        "bentoml_server:Peer",
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
        "--working-dir",
        str(SERVERS),
    ]


GRPC = ("grpcio", "uvloop")
PEERS = {
    "grpc.aio, batch 1": Peer("grpc", GRPC, _script("grpc_server.py"), adapters.BareGrpc),
    "grpc.aio, batches to 4": Peer(
        "grpc", GRPC, _script("grpc_server.py", "--batch", "4"), adapters.BareGrpc
    ),
    "grpc.aio, batches to 16": Peer(
        "grpc", GRPC, _script("grpc_server.py", "--batch", "16"), adapters.BareGrpc
    ),
    "LitServe": Peer("litserve", ("litserve",), _script("litserve_server.py"), adapters.litserve),
    "BentoML": Peer("bentoml", ("bentoml",), _bentoml, adapters.bentoml),
    "Triton": Peer(
        "triton",
        ("nvidia-pytriton",),
        _script("triton_server.py", "--batch", "8"),
        adapters.triton,
    ),
    "Ray Serve": Peer(
        "ray", ("ray[serve]",), _script("ray_server.py", "--batch", "4"), adapters.ray
    ),
}


def environment(name: str, packages: Sequence[str]) -> Path:
    """The `bin` of a peer's environment, made if need be; raises CalledProcessError."""
    directory = HERE / f".venv-{name}"
    ready = directory / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
        pip = [str(directory / "bin" / "pip"), "install", "--quiet", *packages, *FORWARD]
        subprocess.run(pip, check=True)
        ready.touch()
    return directory / "bin"


def exported(checkpoint: Path) -> Path:
    """Directory with the checkpoint as an ONNX graph and its tokenizer."""
    directory = HERE / ".venv-export" / "model"
    bin_ = environment("export", ("onnx", "safetensors"))
    directory.mkdir(exist_ok=True)
    for name in ("tokenizer.json", "config.json"):
        shutil.copy(checkpoint / name, directory)
    subprocess.run(
        [
            str(bin_ / "python"),
            str(SERVERS / "export.py"),
            str(checkpoint),
            str(directory / "model.onnx"),
        ],
        check=True,
    )
    return directory
