"""What the benchmark tells a server by its environment, the same for every server."""

import os
from dataclasses import dataclass
from pathlib import Path

PREFIX = "OFFRAMP_PEER_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the model lies, the port, texts in a batch at most, threads of a worker, and so on.

    `wait` is the seconds that a batch waits to fill, `workers` how many copies of the model run;
    `spins` is whether their threads wait awake for the next product, as by ONNX Runtime's default.

    `model` is a directory with model.onnx, tokenizer.json and config.json.
    """

    model: Path
    port: int
    batch: int
    threads: int
    wait: float
    workers: int
    spins: bool


def read_settings() -> Settings:
    """The settings of this process."""
    told = {name: os.environ[PREFIX + name.upper()] for name in Settings.__slots__}
    return Settings(
        Path(told["model"]),
        int(told["port"]),
        int(told["batch"]),
        int(told["threads"]),
        float(told["wait"]),
        int(told["workers"]),
        told["spins"] == str(True),
    )
