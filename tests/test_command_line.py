"""The commands as a user types them."""

import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command import offramp, run, served
from service import SHIPPED
from tiny import tiny_checkpoint

from offramp.cli.main import VERBS
from offramp.cli.serve_options import config_of, parser
from offramp.model.precision import Precision
from offramp.server.config import GPU_LIMITS, GPU_PRECISION, Limits, ServerConfig


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "words")


def test_classify_prints_one_json_object_a_line() -> None:
    done = offramp("classify", "--json", "a deeply moving film", "a tedious, joyless mess")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["label"] for record in records] == ["positive", "negative"]
    assert all({"confidence", "exit", "layer"} <= record.keys() for record in records)


def test_texts_come_from_arguments_files_and_standard_input(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines, records = tmp_path / "texts.txt", tmp_path / "texts.jsonl.gz"
    lines.write_bytes(b"\xef\xbb\xbffine\n\n  \nnot utf-8: \xff\neasy film\r\n")
    with gzip.open(records, "wt", encoding="utf-8-sig") as file:
        file.write('{"text": "fine"}\n\n{"text": "fine", "text_pair": "easy", "label": 1}\n')
    common = ("classify", "--json", "--checkpoint", checkpoint)
    assert run(*common, "--threshold", "1", "fine", "easy") == 0
    assert [one["text"] for one in parsed(capsys)] == ["fine", "easy"]
    assert run(*common, "--file", records, "--all-probabilities") == 0
    single, pair = parsed(capsys)
    assert "text_pair" not in single
    assert (pair["text_pair"], pair["tokens"]) == ("easy", 5)
    assert sum(pair["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert run(*common, "--file", lines) == 1
    fine, foreign, easy = parsed(capsys)
    assert (fine["text"], easy["text"]) == ("fine", "easy film")
    assert foreign["code"] == "INVALID_ARGUMENT"
    with records.open("wb") as file:
        file.write(gzip.compress(b'{"text": "fine"}\n{"text": "\\ud800 film"}\n{"text": "easy"}\n'))
    assert run(*common, "--file", records) == 1
    assert [one["text"] for one in parsed(capsys)] == ["fine", "\ufffd film", "easy"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"fine\neasy\n")))
    assert run(*common) == 0
    assert [one["text"] for one in parsed(capsys)] == ["fine", "easy"]
    with gzip.open(records, "wt", encoding="utf-8-sig") as file:
        file.write('{"text": "fine"}\n\n{"text": "fine", "text_pair": "easy", "label": 1}\n')
    assert run(*common, "--file", records, records, "--file", records) == 0
    assert [one.get("text_pair") for one in parsed(capsys)] == [None, "easy"] * 3


def test_a_fifo_is_read_once(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_text, args=("fine\neasy\n",), daemon=True)
    writer.start()
    assert run("classify", "--json", "--checkpoint", checkpoint, "--file", fifo) == 0
    assert [one["text"] for one in parsed(capsys)] == ["fine", "easy"]


def parsed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_one_token_file_serves_both_ends(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens, empty = tmp_path / "tokens", tmp_path / "empty"
    tokens.write_text("\n new-secret\nold-secret\n")
    empty.write_text("\n \n")
    with served("--checkpoint", checkpoint, "--token-file", tokens) as server:
        common = ("classify", "--json", "--address", server.address)
        assert run(*common, "--token-file", tokens, "fine") == 0
        assert [one["text"] for one in parsed(capsys)] == ["fine"]
        assert run(*common, "--token-file", empty, "fine") == 1
    assert "empty holds no token" in capsys.readouterr().err


def test_a_table_for_a_person(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = "\x1b[31mred\x07 and\nlines"
    assert run("classify", "--checkpoint", checkpoint, "--threshold", "1", "fine", "", odd) == 1
    out, err = capsys.readouterr()
    head, fine, empty, escaped = out.splitlines()
    assert head.split() == ["text", "label", "confidence", "exit", "layers", "run", "ms"]
    assert re.match(r"fine\s+(yes|no)\s+0\.\d{3}\s+2\s+●●● 3/3\s+\d+\.\d$", fine)
    assert empty.split() == ["error"]
    assert "text 2: text: is empty" in err
    assert "\x1b" not in out
    assert "red" in escaped
    assert "lines" in escaped


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--checkpoint", "nowhere", "x"), "nowhere: no such checkpoint directory"),
        (("--address", "127.0.0.1:1", "x"), "Connection refused"),
        (("--file", "nowhere.txt"), "No such file or directory: 'nowhere.txt'"),
        (("x", "--file", "nowhere.txt"), "not both"),
        (("--file", "{tmp}/empty.txt", "nowhere.txt"), "No such file or directory: 'nowhere.txt'"),
        (("--file", "{tmp}/empty.txt"), "there is no text; give one a line"),
        (("--file", "{tmp}/table.csv"), "table.csv: give a text a line, or .jsonl of objects"),
        (("--file", "{tmp}/deep.JSONL"), "deep.JSONL:1: is not readable as JSON"),
        (("--file", "{tmp}/none.txt.gz"), "none.txt.gz: is broken: Not a gzipped file"),
        (("--file", "{tmp}/bad.jsonl"), "bad.jsonl:2: must be a JSON object whose text"),
        (("--file", "{tmp}/worse.jsonl"), "worse.jsonl:1: is not JSON"),
        (("--file", "{tmp}/torn.txt.gz"), "torn.txt.gz: is broken: Compressed file ended"),
        (("--threshold", "2", "x"), "must be in 0 to 1, not 2"),
        (("--min-exit", "9", "x"), "must be 0 to 2, not 9"),
        (("--model", "other", "x"), "there are words"),
        (("--timeout", "0", "x"), "above 0 seconds"),
        (("--address", "127.0.0.1:1", "--ca", "nowhere.pem", "x"), "nowhere.pem"),
        (("--address", "127.0.0.1:1", "--ca", "{tmp}/bad.jsonl", "x"), "holds no certificate"),
        (("--address", "127.0.0.1:1", "--token-file", "{tmp}/odd", "x"), "printable ASCII"),
        (("--address", "127.0.0.1:65536", "x"), "must be HOST:PORT"),
        (("--address", "", "x"), "must be HOST:PORT"),
        (("--address", "127.0.0.1:1", "--checkpoint", "nowhere", "x"), "leave it or --address out"),
        (("--checkpoint", "nowhere", "--tls", "x"), "name it, --address"),
        (("--checkpoint", "nowhere", "--all-probabilities", "x"), "with --json alone"),
        (("--max-exit", "99999999999999", "x"), "max_exit must be the index of an exit"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    arguments: tuple[str, ...],
    sentence: str,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": "fine"}\n{"text": 5}\n')
    (tmp_path / "worse.jsonl").write_text("fine\n")
    (tmp_path / "empty.txt").write_text("\n  \n")
    (tmp_path / "table.csv").write_text("text,label\nfine,1\n")
    (tmp_path / "deep.JSONL").write_text("[" * 99_999)
    (tmp_path / "none.txt.gz").write_text("no")
    (tmp_path / "odd").write_bytes(b"\xff\n")
    (tmp_path / "torn.txt.gz").write_bytes(gzip.compress(b"fine")[:-9])
    given = [argument.format(tmp=tmp_path) for argument in arguments]
    if "--address" not in given and "--checkpoint" not in given:
        given = ["--checkpoint", str(checkpoint), *given]
    assert run("classify", *given) == 1
    told = capsys.readouterr()
    assert sentence in told.out + told.err
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--address", "nonsense"), "address must be HOST:PORT"),
        (("--address", "127.0.0.1:99999"), "address must be HOST:PORT"),
        (("--address", "::1:0"), "like 127.0.0.1:50051 or [::1]:50051, not ::1:0"),
        (("--address", "127.0.0.1:²"), "address must be HOST:PORT"),
        (("--address", "192.0.2.1:0"), "cannot listen on 192.0.2.1:0"),
        (("--slots", "0"), "slots must be at least 1, not 0"),
        (("--stream-window", "0"), "--stream-window must be at least 1, not 0"),
        (("--drain-grace", "-1"), "--drain-grace must be 0 or more, not -1"),
        (("--device", "abacus"), "device 'abacus' is not usable here"),
        (("--device", "cuda:7"), "device 'cuda:7' is not usable here"),
        (("--device", "hpu"), "device 'hpu' is not usable here"),
        (("--device", "meta"), "device 'meta' is not usable here"),
        (("--slots", "100000000000000000000"), "slots must be at most 2147483647"),
        (("--certificate", "x.pem"), "TLS needs both"),
        (("--certificate", "x.pem", "--private-key", "x.key"), "x.pem"),
        (("--token-file", "nowhere"), "nowhere"),
        (("--checkpoint", "nowhere"), "nowhere: no such checkpoint directory"),
    ],
)
def test_a_server_that_cannot_start_says_why(
    arguments: tuple[str, ...],
    sentence: str,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    common = ("serve", "--address", "127.0.0.1:0", "--checkpoint", str(checkpoint))
    assert run(*common, *arguments) == 1
    told = capsys.readouterr()
    assert f"offramp serve: {sentence}" in told.err or sentence in told.err
    assert "Traceback" not in told.err
    assert not told.out


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory.\nMore of it."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 5 bytes\nMore of it."),
    ],
)
def test_a_server_without_memory_says_so(
    error: Exception,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def load(*_: object) -> None:
        raise error

    monkeypatch.setattr("offramp.server.loader.Loader.load", load)
    assert run("serve", "--checkpoint", checkpoint, "--address", "127.0.0.1:0") == 1
    told = capsys.readouterr().err
    cause = str(error).partition("\n")[0]
    assert told.splitlines()[-1] == (
        f"offramp serve: too little memory for models and slots: {cause}"
    )


def test_damaged_weights_are_named(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkpoint / "model.safetensors").write_bytes(b"not weights")
    assert run("serve", "--checkpoint", checkpoint, "--address", "127.0.0.1:0") == 1
    assert "model.safetensors: not readable as safetensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [(), ("clasify",), ("classify", "--thresh", "1"), ("serve",), ("serve", "--adress", "x:1")],
)
def test_a_misspelt_option_is_an_error_and_usage_is_told(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        run(*arguments)
    assert left.value.code == 2
    assert "usage: offramp" in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("--help",), ("--version",)):
        with pytest.raises(SystemExit) as left:
            run(*arguments)
        assert left.value.code == 0
    told = capsys.readouterr().out
    assert all(f"  {verb}" in told for verb in VERBS)
    assert re.search(r"^offramp \d+\.\d+", told, re.MULTILINE)


def test_a_broken_line_is_named_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "train.jsonl"
    data.write_text('{"text": "fine", "label": 1}\n{"text": "no label"}\n')
    out = tmp_path / "out"
    status = run("train", "--data", data, "--dev", data, "--encoder", "x", "--output", out)
    assert status == 1
    assert "train.jsonl:2: has no label" in capsys.readouterr().err


SWALLOWS = """
import signal, sys, types
from offramp.cli.main import main
serve = sys.modules["offramp.cli.serve"] = types.ModuleType("offramp.cli.serve")
def swallow(_):
    try:
        signal.raise_signal(signal.SIGTERM)
    except BaseException:
        pass
    return 0
serve.main = swallow
sys.exit(main(["serve"]))
"""


def test_a_signal_ends_a_server_that_loads_whatever_is_swallowed_there() -> None:
    """As PyTorch swallows what the import of NumPy raises."""
    done = subprocess.run([sys.executable, "-c", SWALLOWS], check=False)
    assert done.returncode == 128 + signal.SIGTERM


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m offramp.cli.main classify --json --checkpoint {SHIPPED} "
    script = command + "$(yes fine | head -2000) | head -1"
    done = subprocess.run(
        ["/bin/sh", "-c", script], capture_output=True, text=True, check=False, timeout=90
    )
    assert json.loads(done.stdout)["text"] == "fine"
    assert not done.stderr


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


def settings_of(*given: str) -> ServerConfig:
    return config_of(parser().parse_args(given))


def test_a_gpu_gets_larger_steps_unless_told_otherwise() -> None:
    given = ["--checkpoint", "model"]
    assert settings_of(*given).limits == Limits()
    assert settings_of(*given, "--device", "cuda:1").limits == Limits(**GPU_LIMITS)
    assert settings_of(*given, "--device", "cuda").precision is GPU_PRECISION
    told = ["--device", "cuda", "--slots", "7", "--precision", "float32"]
    settings = settings_of(*given, *told)
    assert settings.limits == replace(Limits(**GPU_LIMITS), slots=7)
    assert settings.precision is Precision.FLOAT32
