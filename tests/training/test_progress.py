"""The log of a run that was killed while it wrote."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from offramp.cli.progress import RunLog
from offramp.training.run import Progress

AT = Progress(epoch=0, step=10, steps=40, loss=0.5, seconds=1.0)


def written(path: Path) -> list[tuple[str, int]]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [(record["event"], record["step"]) for record in records]


@pytest.mark.parametrize("torn", ['{"event": "step", "ep', "\0\0\0\0"])
def test_a_torn_last_line_does_not_keep_a_run_from_going_on(torn: str, tmp_path: Path) -> None:
    path, before = tmp_path / "training.jsonl", tmp_path / "before"
    log = RunLog(path, {"seed": 0}, resumed=False)
    for step in (10, 20, 30):
        log.add(replace(AT, step=step))
    whole = path.read_text()
    path.write_text(whole + torn)
    os.link(path, before)
    RunLog(path, {"seed": 0}, resumed=True).add(replace(AT, step=30))
    assert written(path) == [("start", 0), ("step", 10), ("step", 20), ("step", 30)]
    assert before.read_text() == whole + torn  # replaced whole, never half written
    assert sorted(one.name for one in tmp_path.iterdir()) == ["before", "training.jsonl"]


def test_a_log_that_is_all_torn_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "training.jsonl"
    path.write_text('{"event": "sta')
    RunLog(path, {"seed": 0}, resumed=True).add(AT)
    assert written(path) == [("start", 0), ("step", 10)]


def test_a_log_with_a_broken_middle_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "training.jsonl"
    path.write_text('{"event": "start", "step": 0}\nbroken\n{"event": "step", "step": 10}\n')
    with pytest.raises(ValueError, match="Expecting value"):
        RunLog(path, {}, resumed=True)
