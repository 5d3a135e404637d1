"""What cannot be written is told before any work, and tables come before files."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tiny import tiny_checkpoint

from offramp.cli import calibrate, evaluate, train
from offramp.cli.outputs import IMAGES, check_directory, check_file

Command = Callable[[Sequence[str]], int]


@pytest.mark.parametrize(
    ("command", "options", "sentence"),
    [
        (calibrate.main, "--json {tmp}/none/x.json", "there is no directory"),
        (calibrate.main, "--png {tmp}/x.xyz", "x.xyz: its name must end in .png,"),
        (evaluate.main, "--json {tmp}/none/x.json", "there is no directory"),
        (evaluate.main, "--png {tmp}/x.xyz", "x.xyz: its name must end in .png,"),
        (evaluate.main, "--html {tmp}/none/x.html", "there is no directory"),
        (evaluate.main, "--html {tmp}", "it is a directory"),
    ],
)
def test_outputs_are_looked_at_before_a_checkpoint_is_loaded(
    command: Command,
    options: str,
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    common = ["--checkpoint", "nowhere", "--data", "nowhere.jsonl"]
    assert command([*common, *options.format(tmp=tmp_path).split()]) == 1
    assert sentence in capsys.readouterr().err


def test_calibration_starts_where_it_can_be_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "tiny")
    monkeypatch.setattr("os.access", lambda path, mode: not mode or Path(path).name != "tiny")
    assert calibrate.main(["--checkpoint", str(checkpoint), "--data", "nowhere.jsonl"]) == 1
    assert f"cannot write to {checkpoint}" in capsys.readouterr().err


@pytest.mark.parametrize("below", ["", "/sub", "/sub/sub"])
def test_a_run_is_not_kept_in_a_file(
    below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "afile").write_text("mine")
    names = ("--data", "x.jsonl", "--dev", "x.jsonl", "--encoder", "x")
    assert train.main([*names, "--output", f"{tmp_path}/afile{below}"]) == 1
    assert f"{tmp_path}/afile is not a directory" in capsys.readouterr().err
    assert (tmp_path / "afile").read_text() == "mine"


def test_what_can_be_written_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.PNG").touch()
    check_file(None, IMAGES)
    check_file(Path("old.PNG"), IMAGES)
    check_file(Path("new.json"))
    check_directory(Path("new/sub"))
    check_directory(Path())


def test_unwritable_places_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda _, mode: mode == 0)
    with pytest.raises(ValueError, match=r"x\.json: it is not writable"):
        check_file(tmp_path / "x.json")
    with pytest.raises(ValueError, match=f"{tmp_path} is not writable"):
        check_directory(tmp_path)


def test_tables_are_told_even_where_a_file_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"text": "fine", "label": i % 2}) + "\n" for i in range(20)))
    common = ["--checkpoint", str(tiny_checkpoint(tmp_path / "tiny")), "--data", str(data)]

    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    out = tmp_path / "out.json"
    monkeypatch.setattr("pathlib.Path.write_text", full)
    monkeypatch.setattr("offramp.cli.calibrate.save_calibration", lambda *_: None)
    for command, more in ((calibrate.main, []), (evaluate.main, ["--timed-rows", "0"])):
        with pytest.raises(OSError, match="No space left"):
            command([*common, *more, "--json", str(out)])
        assert "layer speedup" in capsys.readouterr().out
