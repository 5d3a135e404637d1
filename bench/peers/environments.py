"""What the servers need: an environment for each, of pinned packages, and the model as a file."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERVERS = Path(__file__).parent / "servers"
BUILD = ROOT / "build" / "peers"
FORWARD = ("onnxruntime==1.32.0", "tokenizers==0.23.3")
BARE = ("grpcio==1.85.1", "uvloop==0.23.0", "numpy==2.4.6")
EXPORT = ("onnx==1.23.2", "safetensors==0.8.0", "numpy==2.4.6")


class InstallError(Exception):
    """An environment cannot be made; says why in a sentence."""


def environment(name: str, packages: Sequence[str]) -> Path:
    """The `bin` of a peer's environment, made anew if other packages are in it.

    Raises InstallError.
    """
    directory = BUILD / name
    ready, wanted = directory / "packages.txt", "\n".join((*packages, *FORWARD)) + "\n"
    if not ready.exists() or ready.read_text() != wanted:
        if directory.exists():
            shutil.rmtree(directory)
        _run([sys.executable, "-m", "venv", str(directory)])
        _run([str(directory / "bin" / "pip"), "install", "--quiet", *wanted.split()])
        ready.write_text(wanted)
    return directory / "bin"


def limited(checkpoint: Path, max_tokens: int) -> Path:
    """A copy of a checkpoint that reads up to so many tokens of a text."""
    directory = BUILD / f"{checkpoint.name}-{max_tokens}"
    shutil.copytree(checkpoint, directory, dirs_exist_ok=True)
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config["model"]["max_tokens"] = max_tokens
    path.write_text(json.dumps(config))
    return directory


def exported(checkpoint: Path) -> Path:
    """Directory with the checkpoint at full depth as an ONNX graph, and its tokenizer."""
    python = environment("export", EXPORT) / "python"
    directory = BUILD / "model"
    directory.mkdir(exist_ok=True)
    for name in ("tokenizer.json", "config.json"):
        shutil.copy(checkpoint / name, directory)
    export = [str(python), str(SERVERS / "export.py"), str(checkpoint)]
    _run([*export, str(directory / "model.onnx")])
    return directory


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line]
        raise InstallError(" ".join(lines or done.stderr.splitlines()[-1:]))
