"""`offramp watch`: a server's figures live in a terminal, from its Prometheus endpoint."""

import argparse
import http.client
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Sequence
from ipaddress import AddressValueError, IPv6Address
from itertools import pairwise
from math import inf

from rich.console import Group
from rich.live import Live

from offramp.cli.figures import Figures, Scrape
from offramp.cli.screen import first_screen, screen
from offramp.cli.table import console

PORT = 9464
WINDOW = 10
"""Seconds that the figures are over."""
MINUTE = 60
TOTAL = "offramp.request.total.duration"
PATIENCE = 5.0
"""Seconds after which a silent server has not answered."""
LEAST_INTERVAL = 0.1
UNANSWERED = (OSError, http.client.HTTPException, ValueError)
"""What a look raises at a server that is gone, or slow, or tells what are no metrics."""


class Watch:
    """The scrapes of the last minute and what follows from them."""

    def __init__(self, address: str, interval: float, patience: float = PATIENCE) -> None:
        self._address = address
        self._interval = interval
        self._patience = patience
        self._scrapes = deque[Scrape](maxlen=max(2, round(MINUTE / interval)))
        self._answered = ""
        self._silence: list[str] = []

    def scrape(self) -> None:
        """Ask the server once; raises one of UNANSWERED if it does not answer.

        What was counted before a server started anew is forgotten.
        """
        url = f"http://{self._address}/metrics"
        with urllib.request.urlopen(url, timeout=self._patience) as response:
            scrape = Scrape.of(response.read().decode(), time.monotonic())
        if self._scrapes and not scrape.follows(self._scrapes[-1]):
            self._scrapes.clear()
        self._scrapes.append(scrape)
        self._answered = _clock()
        self._silence = []

    def look(self) -> None:
        """Ask the server once more; the picture says since when there is no answer."""
        try:
            self.scrape()
        except UNANSWERED as error:
            self._silence = [f"no answer since {self._answered}: {_reason(error)}"]

    def picture(self) -> Group:
        """The screen as of the last scrape; figures need two."""
        scrapes = list(self._scrapes)
        title = f"offramp · {self._address} · {_clock()}"
        if len(scrapes) < 2:
            return first_screen(title, self._silence)
        back = min(len(scrapes) - 1, max(1, round(WINDOW / self._interval)))
        steps = [Figures(a, b) for a, b in pairwise(scrapes)]
        rates = [figures.answers for figures in steps]
        p99s = [figures.quantile(TOTAL, 0.99) for figures in steps]
        figures = Figures(scrapes[-1 - back], scrapes[-1])
        return screen(title, figures, rates, p99s, [*self._silence, *figures.ills()])


def main(arguments: Sequence[str]) -> int:
    """Watch until interrupted; returns the exit status."""
    args = _parser().parse_args(arguments)
    address = args.host
    watch = Watch(address, args.interval)
    try:
        watch.scrape()
        if args.once:
            time.sleep(args.interval)
            watch.scrape()
            console().print(watch.picture())
            return 0
        with Live(watch.picture(), console=console(), screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(args.interval)
                watch.look()
                live.update(watch.picture(), refresh=True)
    except KeyboardInterrupt:
        return 0
    except UNANSWERED as error:
        print(
            f"offramp watch: no metrics at http://{address}/metrics ({_reason(error)}); start the"
            " server with OTEL_METRICS_EXPORTER=prometheus",
            file=sys.stderr,
        )
        return 1


def metrics_address(host: str) -> str:
    """HOST:PORT of HOST, which may have its port already; an IPv6 address goes in brackets.

    Raises ArgumentTypeError of what is neither.
    """
    try:
        return f"[{IPv6Address(host.removeprefix('[').removesuffix(']'))}]:{PORT}"
    except AddressValueError:
        name, colon, port = host.rpartition(":")
        if "/" in host or not (name or host) or (colon and not port.isdigit()):
            told = f"must be HOST or HOST:PORT, like localhost:{PORT}, not {host!r}"
            raise argparse.ArgumentTypeError(told) from None
        return host if colon else f"{host}:{PORT}"


def _clock() -> str:
    return time.strftime("%H:%M:%S")


def _reason(error: Exception) -> object:
    return getattr(error, "reason", error)


def _interval(word: str) -> float:
    seconds = float(word)
    if not LEAST_INTERVAL <= seconds < inf:
        raise argparse.ArgumentTypeError(f"must be at least {LEAST_INTERVAL:g} s, not {word}")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="offramp watch", description=__doc__)
    parser.add_argument(
        "host",
        type=metrics_address,
        metavar="HOST",
        help=f"of the server's metrics, HOST or HOST:PORT (default {PORT})",
    )
    parser.add_argument("--interval", type=_interval, default=1.0, help="seconds between two looks")
    parser.add_argument("--once", action="store_true", help="print one picture and end")
    return parser
