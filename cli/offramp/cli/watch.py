"""`offramp watch`: the figures of one server or several live in a terminal, by their metrics."""

import argparse
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from math import inf
from typing import Never, TypeAlias

from rich.console import Console, Group
from rich.live import Live

from offramp.cli.defaults import DefaultsFormatter
from offramp.cli.endpoint import PORT, Endpoint, metrics_addresses
from offramp.cli.figures import Figures
from offramp.cli.scrape import Scrape
from offramp.cli.screen import first_screen, screen
from offramp.cli.table import console

WINDOW = 10
"""Seconds that the figures are over."""
MINUTE = 60
TOTAL = "offramp.request.total.duration"
PATIENCE = 5.0
"""Seconds after which a silent server has not answered."""
LEAST_INTERVAL = 0.1
NAMED = 3
"""So many servers are named in the title."""

Look: TypeAlias = Mapping[str, Scrape]
"""What servers told at about one time, by their addresses."""


class Watch:
    """The looks of the last minute and what follows from them."""

    def __init__(
        self, addresses: Sequence[str], interval: float, patience: float = PATIENCE
    ) -> None:
        self._endpoints = [Endpoint(address, patience) for address in addresses]
        self._patience = patience
        self._interval = interval
        self._looks = deque[Look](maxlen=max(2, round(MINUTE / interval)))

    def look(self) -> bool:
        """Ask all servers once more; whether any answers.

        What was counted before one of them started anew is forgotten.
        """
        for one in self._endpoints:
            one.ask()
        ends = time.monotonic() + self._patience
        found = ((one.address, one.answer(ends)) for one in self._endpoints)
        look = {address: scrape for address, scrape in found if scrape is not None}
        if any(one.anew for one in self._endpoints):
            self._looks.clear()
        if look:
            self._looks.append(look)
        return bool(look)

    def unanswered(self) -> list[tuple[str, object]]:
        """Addresses at which nobody answers, and why."""
        return [(one.address, one.silence) for one in self._endpoints if one.silence is not None]

    def picture(self) -> Group:
        """The screen as of the last look; figures need two."""
        looks = list(self._looks)
        names = [one.address for one in self._endpoints]
        who = ", ".join(names) if len(names) <= NAMED else f"{len(names)} servers"
        title = f"offramp · {who} · {time.strftime('%H:%M:%S')}"
        silence = [
            self._of(one.address, f"no answer since {one.answered or 'the start'}: {one.silence}")
            for one in self._endpoints
            if one.silence is not None
        ]
        back = min(len(looks) - 1, max(1, round(WINDOW / self._interval)))
        if len(looks) < 2 or not (both := looks[-1 - back].keys() & looks[-1].keys()):
            return first_screen(title, silence)
        steps = [_between(a, b) for a, b in pairwise(looks)]
        rates = [figures.answers for figures in steps]
        p99s = [figures.quantile(TOTAL, 0.99) for figures in steps]
        ills = [
            self._of(name, ill)
            for name in names
            if name in both
            for ill in Figures(looks[-1 - back][name], looks[-1][name]).ills()
        ]
        figures = _between(looks[-1 - back], looks[-1])
        return screen(title, figures, rates, p99s, [*silence, *ills])

    def _of(self, address: str, said: str) -> str:
        """What is said of one server, which is named if there are others."""
        return said if len(self._endpoints) == 1 else f"{address}: {said}"


def _between(before: Look, now: Look) -> Figures:
    """The figures of the servers that answered both times."""
    both = before.keys() & now.keys()
    return Figures(*(Scrape.joined([look[name] for name in both]) for look in (before, now)))


def main(arguments: Sequence[str]) -> int:
    """Watch until interrupted; returns the exit status."""
    args = _parser().parse_args(arguments)
    watch = Watch(list(dict.fromkeys(chain(*args.hosts))), args.interval)
    try:
        if not watch.look():
            return _nobody(watch)
        if args.once:
            time.sleep(args.interval)
            if not watch.look():
                return _nobody(watch)
            console().print(watch.picture())
            return 0
        output = console()
        if not output.is_terminal:
            _print_pictures(watch, output, args.interval)
        with Live(watch.picture(), console=output, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(args.interval)
                watch.look()
                live.update(watch.picture(), refresh=True)
    except KeyboardInterrupt:
        return 0


def _print_pictures(watch: Watch, output: Console, interval: float) -> Never:
    """One below the other, for whoever keeps them."""
    while True:
        time.sleep(interval)
        watch.look()
        output.print(watch.picture())


def _nobody(watch: Watch) -> int:
    for address, reason in watch.unanswered():
        print(
            f"offramp watch: no metrics at http://{address}/metrics ({reason}); start the server"
            " with OTEL_METRICS_EXPORTER=prometheus",
            file=sys.stderr,
        )
    return 1


def _interval(word: str) -> float:
    seconds = float(word)
    if not LEAST_INTERVAL <= seconds < inf:
        raise argparse.ArgumentTypeError(f"must be at least {LEAST_INTERVAL:g} s, not {word}")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="offramp watch",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=DefaultsFormatter,
    )
    parser.add_argument(
        "hosts",
        type=metrics_addresses,
        nargs="+",
        metavar="HOST",
        help=f"of a server's metrics: HOST, HOST:PORT (default {PORT}) or, of several processes,"
        " HOST:FIRST-LAST; several are shown together",
    )
    parser.add_argument("--interval", type=_interval, default=1.0, help="seconds between two looks")
    parser.add_argument("--once", action="store_true", help="print one picture and end")
    return parser
