"""A comparison of servers part by part: what was measured, and what is still to do."""

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bare import full_depth_labels
from catalog import PEERS, Setting
from environments import InstallError, exported
from measure import CHECKED, Bench, Figures, Subject, ours, theirs
from record import BFLOAT16, FULL_DEPTH, OURS, rate_of, rivals_of, setting_of
from threshold import of_equal_quality

from offramp.cli.load.circumstances import circumstances
from offramp.cli.load.inputs import read_texts

TAIL_LOAD = 0.8
"""Share of the best peer's saturation at which tails are measured."""

DRIFT = 0.05
"""A rate for tails is that of the best peer's saturation within this share, as looks are added."""

Part = tuple[str, Callable[[], None]]


class Comparison:
    """A record of parts done, and what is still to do."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        subject = {
            "texts": ["/".join(path.absolute().parts[-2:]) for path in args.texts],
            "padded": args.padded,
            "max_tokens": args.max_tokens,
        }
        self.record: Figures = {
            **circumstances(),
            **subject,
            "tried": {},
            "served": {},
            "rounds": [],
            "tails": [],
        }
        if args.json.exists():
            self.record = json.loads(args.json.read_text())
            told = {name: self.record[name] for name in subject}
            if told != subject:
                sys.exit(f"{args.json} is of {told}, not of {subject}: name another file")
        self._bench: Bench | None = None

    @property
    def bench(self) -> Bench:
        """What measures, made when it is first needed."""
        if self._bench is None:
            texts = mixed(self.args.texts)
            labels = full_depth_labels(self.args.checkpoint, texts[:CHECKED])
            model = exported(self.args.checkpoint)
            self._bench = Bench(texts, labels, model, self.args.steps)
        return self._bench

    def parts(self) -> Iterator[Part]:
        """What is still to do, one part at a time; each looks at what those before it found."""
        first, *others = self.args.peers
        if self.args.dev and "quality" not in self.record:
            yield "threshold of equal quality", self._choose
        if self.args.tune_only:
            for name in self.args.peers:
                yield from self._settings(name)
            return
        yield from self._peer(first)
        yield from self._first(OURS)
        yield from self._first(FULL_DEPTH)
        yield from self._first(BFLOAT16)
        for name in others:
            yield from self._peer(name)
        yield from self._again()

    def _choose(self) -> None:
        args = self.args
        self.record["quality"] = of_equal_quality(args.checkpoint, args.dev, args.texts)

    def _settings(self, name: str) -> Iterator[Part]:
        if name not in self.record["tried"]:
            yield f"{name}: settings", partial(self._try, name)

    def _peer(self, name: str) -> Iterator[Part]:
        yield from self._settings(name)
        if setting_of(self.record, name)[0]:
            yield from self._first(name)

    def _first(self, name: str) -> Iterator[Part]:
        if not self.record["served"].get(name):
            yield f"{name}: first look", partial(self._serve, name)

    def _again(self) -> Iterator[Part]:
        """The best peers and ours, at both depths, in turn; then their tails at one rate."""
        if not (rivals := rivals_of(self.record)):
            return
        names = (*rivals, OURS, FULL_DEPTH)
        if any(set(done) != set(names) for done in self.record["rounds"]):
            self.record["rounds"] = []
        yield from self._in_turn("rounds", names, self.args.rounds, self._look)
        best, *_ = rivals = rivals_of(self.record)
        if not (rate := TAIL_LOAD * rate_of(self.record, best)):
            return
        drifted = abs(self.record.get("tails_rate", 0.0) / rate - 1) > DRIFT
        if drifted or any(set(done) != {*rivals, OURS} for done in self.record["tails"]):
            self.record |= {"tails": [], "tails_rate": rate}
        yield from self._in_turn("tails", (*rivals, OURS), self.args.tails, self._tail)

    def _in_turn(
        self, section: str, names: Sequence[str], times: int, look: Callable[[str], Figures]
    ) -> Iterator[Part]:
        """Whole rounds: what is compared lies minutes apart."""
        done: list[dict[str, Figures]] = self.record[section]

        def once() -> None:
            done.append({name: look(name) for name in names})

        while len(done) < times:
            yield f"{', '.join(names)}: {section}, {len(done) + 1} of {times}", once

    def _try(self, name: str) -> None:
        tried: list[Figures] = []
        so_far = {**self.record, "tried": {name: tried}}

        def best() -> Setting:
            return setting_of(so_far, name)[0] or Setting(1, 1, 0.0)

        for setting in PEERS[name].settings(best):
            told = asdict(setting)
            try:
                subject = theirs(name, PEERS[name], setting, self.bench.model)
                tried.append(told | self.bench.tried(subject))
            except InstallError as error:
                tried.append(told | {"failed": f"cannot be installed: {error}"})
            if "failed" in tried[-1]:
                break  # what does not start once is not waited for again
        self.record["tried"][name] = tried

    def _serve(self, name: str) -> None:
        subject = self._subject(name)
        self.record["served"][name] = self.bench.served(subject, self.args.seconds / 2)

    def _look(self, name: str) -> Figures:
        return self.bench.served(self._subject(name), self.args.seconds)

    def _tail(self, name: str) -> Figures:
        rate, seed = self.record["tails_rate"], len(self.record["tails"])
        return self.bench.tail(self._subject(name), rate, seed)

    def _subject(self, name: str) -> Subject:
        if name in PEERS:
            setting, _ = setting_of(self.record, name)
            assert setting is not None
            return theirs(name, PEERS[name], setting, self.bench.model)
        chosen = self.record.get("quality", {}).get("threshold")
        threshold = 1.0 if name == FULL_DEPTH else chosen
        return ours(self.args.checkpoint, threshold, half=name == BFLOAT16)

    def forget(self, name: str) -> None:
        """Drop what was measured of a server, and whatever was measured in turn with it."""
        self.record["tried"].pop(name, None)
        self.record["served"].pop(name, None)
        for section in ("rounds", "tails"):
            if any(name in done for done in self.record[section]):
                self.record[section] = []

    def save(self) -> None:
        """Write the record."""
        self.args.json.parent.mkdir(parents=True, exist_ok=True)
        self.args.json.write_text(json.dumps(self.record, indent=1) + "\n")


def mixed(paths: Sequence[Path]) -> list[str]:
    """Texts of all files in equal parts, in a random order that is always the same."""
    parts = [read_texts(path) for path in paths]
    draw = random.Random(0)
    fewest = min(map(len, parts))
    texts = [text for part in parts for text in draw.sample(part, fewest)]
    draw.shuffle(texts)
    return texts
