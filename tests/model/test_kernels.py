"""The GPU's kernels, interpreted on a CPU, compute what PyTorch's operations do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is made for Linux on x86-64 alone")

INTERPRETED = Path(__file__).with_name("interpreted.py")


# bfloat16 is compared on a GPU alone: the interpreter multiplies its bits as integers.
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 2e-3)])
def test_fused_stages_say_what_plain_ones_do(dtype: str, tolerance: float) -> None:
    command = [sys.executable, str(INTERPRETED), dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"bert", "attending", "distilbert", "electra"}
    assert max(found.values()) < tolerance, found
