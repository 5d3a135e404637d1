"""`offramp watch`: a server's figures live in a terminal, from its Prometheus endpoint."""

import argparse
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

from rich.console import Group
from rich.live import Live

from offramp.cli.figures import Figures, Scrape
from offramp.cli.screen import screen
from offramp.cli.table import console

PORT = 9464
WINDOW = 10
"""Seconds that the figures are over."""
MINUTE = 60
TOTAL = "offramp.request.total.duration"


class Watch:
    """The scrapes of the last minute and what follows from them."""

    def __init__(self, address: str, interval: float) -> None:
        self._address = address
        self._interval = interval
        self._scrapes = deque[Scrape](maxlen=max(2, round(MINUTE / interval)))

    def scrape(self) -> None:
        """Ask the server once; raises OSError if it does not answer."""
        with urllib.request.urlopen(f"http://{self._address}/metrics", timeout=5) as response:
            self._scrapes.append(Scrape.of(response.read().decode(), time.monotonic()))

    def picture(self) -> Group:
        """The screen as of the last scrape; needs two of them."""
        scrapes = list(self._scrapes)
        back = min(len(scrapes) - 1, max(1, round(WINDOW / self._interval)))
        steps = [Figures(a, b) for a, b in pairwise(scrapes)]
        rates = [figures.answers for figures in steps]
        p99s = [figures.quantile(TOTAL, 0.99) for figures in steps]
        title = f"offramp · {self._address} · {time.strftime('%H:%M:%S')}"
        return screen(title, Figures(scrapes[-1 - back], scrapes[-1]), rates, p99s)


def main(arguments: Sequence[str]) -> int:
    """Watch until interrupted; returns the exit status."""
    args = _parser().parse_args(arguments)
    address = args.host if ":" in args.host else f"{args.host}:{PORT}"
    watch = Watch(address, args.interval)
    try:
        watch.scrape()
        time.sleep(args.interval)
        watch.scrape()
        if args.once:
            console().print(watch.picture())
            return 0
        with Live(watch.picture(), console=console(), screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(args.interval)
                watch.scrape()
                live.update(watch.picture(), refresh=True)
    except KeyboardInterrupt:
        return 0
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        print(
            f"offramp watch: no metrics at http://{address}/metrics ({reason}); start the server"
            " with OTEL_METRICS_EXPORTER=prometheus",
            file=sys.stderr,
        )
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="offramp watch", description=__doc__)
    parser.add_argument(
        "host", metavar="HOST", help=f"of the server's metrics, HOST or HOST:PORT (default {PORT})"
    )
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two looks")
    parser.add_argument("--once", action="store_true", help="print one picture and end")
    return parser
