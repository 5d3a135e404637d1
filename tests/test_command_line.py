"""The commands as a user types them."""

import json
import subprocess
import sys
from pathlib import Path

COMMAND = (sys.executable, "-m", "offramp.cli.main")


def offramp(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=90
    )


def test_classify_prints_one_json_object_a_line() -> None:
    done = offramp("classify", "--json", "a deeply moving film", "a tedious, joyless mess")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["label"] for record in records] == ["positive", "negative"]
    assert all({"confidence", "exit", "layer"} <= record.keys() for record in records)


def test_a_broken_line_is_named_before_training(tmp_path: Path) -> None:
    data = tmp_path / "train.jsonl"
    data.write_text('{"text": "fine", "label": 1}\n{"text": "no label"}\n')
    done = offramp(
        "train",
        "--data",
        str(data),
        "--dev",
        str(data),
        "--encoder",
        "x",
        "--output",
        str(tmp_path / "out"),
    )
    assert done.returncode == 1
    assert "train.jsonl:2: has no label" in done.stderr


def test_the_client_imports_nothing_that_computes() -> None:
    check = (
        "import sys, offramp.client; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_the_client_does_without_opentelemetry() -> None:
    program = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name == "opentelemetry" else find(name, package)
)
from offramp.client.tracing import call_span
with call_span("a/b", (("key", "value"),)) as metadata:
    assert metadata == (("key", "value"),)
sys.exit("opentelemetry" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
