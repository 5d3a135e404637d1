"""What the benchmark tells a server by its environment, the same for every server."""

import os
from dataclasses import dataclass
from pathlib import Path

PREFIX = "OFFRAMP_PEER_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the model lies, the port, texts in a batch at most, threads, seconds a batch waits.

    `model` is a directory with model.onnx, tokenizer.json and config.json.
    """

    model: Path
    port: int
    batch: int
    threads: int
    wait: float


def read_settings() -> Settings:
    """The settings of this process."""
    told = {name: os.environ[PREFIX + name.upper()] for name in Settings.__slots__}
    return Settings(
        Path(told["model"]),
        int(told["port"]),
        int(told["batch"]),
        int(told["threads"]),
        float(told["wait"]),
    )
