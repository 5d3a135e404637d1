"""What belongs beside every figure: versions, machine, commit, and how quick the machine was.

Needs the standard library alone, so that a benchmark can import it wherever it runs.
"""

import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PACKAGES = (
    "offramp",
    "grpcio",
    "protobuf",
    "torch",
    "triton",
    "transformers",
    "tokenizers",
    "numpy",
    "uvloop",
)
YARDSTICK_SIZE = 1024
YARDSTICK_REPEATS = 20


def circumstances() -> dict[str, object]:
    """Versions, machine and commit."""
    versions: dict[str, str] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    commit = ""
    with suppress(FileNotFoundError):  # a container may have no git
        commit = subprocess.run(  # noqa: S603
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
    return {
        "versions": versions,
        "cores": os.cpu_count(),
        "platform": sys.platform,
        "commit": commit,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def yardstick(clock: Callable[[], float] = time.perf_counter) -> float | None:
    """GFLOP/s of a 1024 x 1024 float32 matrix product, the machine's speed just now, by torch.

    By `clock`, in seconds. None where torch is not installed.
    """
    try:
        import torch  # noqa: PLC0415 - a client's machine need not have it
    except ModuleNotFoundError:
        return None
    left, right = torch.randn(2, YARDSTICK_SIZE, YARDSTICK_SIZE).unbind()
    times: list[float] = []
    for _ in range(YARDSTICK_REPEATS):
        started = clock()
        torch.mm(left, right)
        times.append(clock() - started)
    return 2 * YARDSTICK_SIZE**3 / statistics.median(times) / 1e9
