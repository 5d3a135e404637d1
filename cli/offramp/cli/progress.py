"""A training run as it is seen: a bar in a terminal, lines elsewhere, JSON Lines in a file."""

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from offramp.training.run import Progress

LINE_STEPS = 50


class RunLog:
    """`training.jsonl`: the configuration, then a line for every report, each with its step."""

    def __init__(self, path: Path, config: Mapping[str, Any], *, resumed: bool) -> None:
        self._path = path
        start = {"event": "start", "step": 0, "config": config}
        self._lines = (_whole_lines(path) if resumed and path.exists() else []) or [start]
        self._trimmed = False

    def add(self, progress: Progress) -> None:
        """Append a report; what a killed run had logged beyond it is dropped."""
        event = "step" if progress.exit_accuracies is None else "epoch"
        line = {"event": event, **asdict(progress)}
        if not self._trimmed:
            before = [old for old in self._lines if _place(old) < _place(line)]
            text = "".join(json.dumps(old) + "\n" for old in before)
            unfinished = self._path.with_name(f"{self._path.name}.part")
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(self._path)
            self._trimmed = True
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log but for a last one that was torn when its run was killed."""
    lines = path.read_text(encoding="utf-8").splitlines()
    with suppress(json.JSONDecodeError):
        return [json.loads(line) for line in lines]
    return [json.loads(line) for line in lines[:-1]]


def _place(line: Mapping[str, Any]) -> tuple[int, bool]:
    return line["step"], line["event"] == "epoch"


class RunScreen:
    """Standard error: a bar that shows the accuracy of each exit, or plain lines when piped."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[told]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("epoch 1", total=None, told="")
        self._teacher: TaskID | None = None
        self._tenths = 0
        self._dev = "-"
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> Self:
        if self._shown:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def teach(self, done: int, total: int) -> None:
        """Tell how many texts of all the teacher has read."""
        if self._shown:
            if self._teacher is None:
                self._teacher = self._bar.add_task("teacher reads", total=total, told="texts")
            self._bar.update(self._teacher, completed=done)
        elif (tenths := 10 * done // total) > self._tenths:
            self._tenths = tenths
            print(f"the teacher has read {done} of {total} texts", file=sys.stderr, flush=True)

    def show(self, progress: Progress) -> None:
        """Tell of a report."""
        accuracies = progress.exit_accuracies
        dev = "" if accuracies is None else " ".join(f"{value:.3f}" for value in accuracies)
        self._dev = dev or self._dev
        if self._shown:
            self._bar.update(
                self._task,
                description=f"epoch {progress.epoch + 1}/{self._epochs}",
                completed=progress.step,
                total=progress.steps,
                told=f"loss {progress.loss:.3f}  dev {self._dev}",
            )
        elif dev or progress.step % LINE_STEPS == 0:
            line = (
                f"epoch {progress.epoch + 1}/{self._epochs}  step {progress.step}/{progress.steps}"
                f"  loss {progress.loss:.3f}  {progress.seconds:.0f} s"
            )
            print(f"{line}  dev {dev}" if dev else line, file=sys.stderr, flush=True)
