"""What a comparison wrote down, and what it says: settings, looks, rates, who may be the best."""

import statistics
from functools import partial
from math import inf
from typing import Any

from catalog import PEERS, Setting

from offramp.cli.load.saturation import Probe, sustained

OURS, FULL_DEPTH, BFLOAT16 = "offramp", "offramp, full depth", "offramp, bfloat16"
CLOSE = 0.85
"""Share of the best peer's saturation from which another may be the best in truth."""

Figures = dict[str, Any]


def setting_of(record: Figures, name: str) -> tuple[Setting | None, float]:
    """A peer's best setting of those tried and what it answered a second; none where it failed."""
    best: tuple[Setting | None, float] = (None, 0.0)
    for tried in record["tried"].get(name, []):
        rate = 0.0 if "failed" in tried else tried["answered_per_second"]
        if rate > best[1] and not (record["padded"] and tried["batch"] == 1):
            best = setting_tried(tried), rate
    return best


def looks_of(record: Figures, name: str) -> list[Figures]:
    """What was measured of a server in turn with others; else its first look."""
    in_turn = [done[name] for done in record["rounds"] if name in done]
    return in_turn or [record["served"][name]] if name in record["served"] else []


def rate_of(record: Figures, name: str) -> float:
    """Median saturation of a server, texts a second."""
    rates = list(map(saturation_of, looks_of(record, name)))
    return statistics.median(rates) if rates else 0.0


def rivals_of(record: Figures) -> list[str]:
    """Peers that by their first look may be the best, the highest saturation first."""
    first = {name: saturation_of(look) for name, look in record["served"].items() if name in PEERS}
    least = CLOSE * max(first.values(), default=0.0)
    close = [name for name, rate in first.items() if rate and rate >= least]
    return sorted(close, key=partial(rate_of, record), reverse=True)


def probes_of(look: Figures) -> list[Probe]:
    """The rates that were tried in a look for a server's saturation."""
    probes = look["saturation"]["probes"] if "saturation" in look else []
    return [Probe(**probe) for probe in probes]


def saturation_of(look: Figures) -> float:
    """Texts a second that were sustained; 0 where no rate was, or the server failed."""
    return sustained(probes_of(look))


def tails_of(record: Figures, name: str, pattern: str) -> list[float]:
    """The p99 of each look; infinite where a hundredth or more was not answered."""
    looks = [done[name][pattern] for done in record["tails"] if name in done]
    return [inf if look["p99"] is None else look["p99"] for look in looks]


def setting_tried(tried: Figures) -> Setting:
    """The setting of one that was tried."""
    names = ("batch", "threads", "wait", "workers", "spins")
    return Setting(**{name: tried[name] for name in names if name in tried})
