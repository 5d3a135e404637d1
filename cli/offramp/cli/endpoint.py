"""Where a server shows its metrics to Prometheus, asked again and again."""

import argparse
import http.client
import re
import threading
import time
import urllib.request
from contextlib import suppress
from ipaddress import AddressValueError, IPv6Address

from offramp.cli.scrape import Scrape

PORT = 9464
UNANSWERED = (OSError, http.client.HTTPException, ValueError)
"""What asking raises where a server is gone, or slow, or tells what are no metrics."""
PORTS = re.compile(r"(\d+)(?:-(\d+))?")


class Endpoint:
    """One server's metrics: what it told last, or since when it tells nothing."""

    def __init__(self, address: str, patience: float) -> None:
        self.address = address
        self._patience = patience
        self._last: Scrape | None = None
        self._told: Scrape | None = None
        self._asking = threading.Thread()
        self.answered = ""
        """When it answered last, by the clock; empty if it never did."""
        self.anew = False
        """Whether it counted from 0 again when it was asked last."""
        self.silence: object = None
        """Why it did not answer when it was asked last; None if it did."""

    def ask(self) -> None:
        """Ask once more, beside others, unless it has not answered yet."""
        if not self._asking.is_alive():
            self._told, self.anew, self.silence = None, False, None
            # Nobody who ends the program waits for a server that is slow.
            self._asking = threading.Thread(target=self._ask, daemon=True)
            self._asking.start()

    def answer(self, ends: float) -> Scrape | None:
        """What it tells until then, by `time.monotonic`; None if it does not answer."""
        self._asking.join(max(0.0, ends - time.monotonic()))
        if self._asking.is_alive():
            self.silence = "timed out"
            return None
        return self._told

    def _ask(self) -> None:
        try:
            url = f"http://{self.address}/metrics"
            with urllib.request.urlopen(url, timeout=self._patience) as response:
                text = response.read().decode()
            host = self.address.rpartition(":")[0]
            scrape = Scrape.of(text, time.monotonic(), host)
            if not any(name.startswith("offramp_") for name in scrape.series):
                raise ValueError("these are not an offramp server's")
        except http.client.RemoteDisconnected as error:
            self.silence = error
            return
        except http.client.BadStatusLine:
            self.silence = "it does not speak HTTP; name the port of the metrics"
            return
        except UNANSWERED as error:
            self.silence = getattr(error, "reason", error)
            return
        self.anew = self._last is not None and not scrape.follows(self._last)
        self._told = self._last = scrape
        self.answered = time.strftime("%H:%M:%S")


def metrics_addresses(host: str) -> tuple[str, ...]:
    """HOST:PORT of HOST, which may have its port or ports already; IPv6 goes in brackets.

    Raises ArgumentTypeError of what is neither.
    """
    with suppress(AddressValueError):
        return (f"[{IPv6Address(host.removeprefix('[').removesuffix(']'))}]:{PORT}",)
    name, colon, word = host.rpartition(":")
    if host and not colon and "/" not in host:
        return (f"{host}:{PORT}",)
    found = PORTS.fullmatch(word)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if not name or "/" in name or first > last:
        told = f"must be HOST, HOST:PORT or HOST:FIRST-LAST, like localhost:{PORT}, not {host!r}"
        raise argparse.ArgumentTypeError(told)
    return tuple(f"{name}:{port}" for port in range(first, last + 1))
