"""The committed figures as tables, set into docs/performance.md between two marks.

python bench/peers/table.py
"""

import json
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from math import inf

from catalog import PEERS
from environments import ROOT
from record import (
    FULL_DEPTH,
    OURS,
    Figures,
    looks_of,
    probes_of,
    rate_of,
    rivals_of,
    saturation_of,
    setting_of,
    setting_tried,
    tails_of,
)

from offramp.cli.load.saturation import bounded

OWED = "owed"
QUIET = 0.05
"""Share of the cores that others may use before it is told."""

PAGE = ROOT / "docs" / "performance.md"
RESULTS = {"peers": "peers.json", "mixed lengths": "peers_mixed.json"}


def table(record: Figures) -> str:
    """A line a server."""
    lines = [
        "| server | one in flight, p50 ms | over ONNX Runtime | CPU ms an answer "
        "| saturation, texts/s | p99 ms at 80 %, Poisson | bursty |",
        "|---|---|---|---|---|---|---|",
    ]
    names = [*record["served"], *(name for name in record["tried"] if name not in record["served"])]
    lines += [
        _line(record, name) for name in sorted(names, key=lambda name: -rate_of(record, name))
    ]
    forward = [part["bare_forward"]["p50_ms"] for part in _all(record) if "bare_forward" in part]
    lines.append(f"| *no server:* ONNX Runtime | {_spread(forward, '.1f')} | 1 | | | | |")
    busy = [f"{name} {most:.0%}" for name in names if (most := _busy(record, name)) > QUIET]
    if busy:
        lines += ["", f"Others used the cores just before a part of: {', '.join(busy)}."]
    return "\n".join(lines)


def ratios(record: Figures) -> str:
    """Ours over the best peers, the best first, and what was asked of ours over the best."""
    rivals = rivals_of(record)
    if not rivals:
        return "No peer could be measured."
    padded, asked = (" that pad", "4") if record["padded"] else ("", "2.5")
    chosen = record.get("quality")
    at = f"threshold {chosen['threshold']:g} (dev)" if chosen else "default threshold"
    lines = [
        f"| ours over the best peers{padded} | {' | '.join(rivals)} | asked |",
        f"|---|{'---|' * len(rivals)}---|",
        _compared(f"saturation, {at}", rivals, partial(_over, record, OURS), asked),
        _compared("saturation, full depth", rivals, partial(_over, record, FULL_DEPTH), "1.15"),
    ]
    for pattern in ("poisson", "bursty"):
        told = f"p99 at 80 % of {rivals[0]}'s saturation, {pattern}"
        lines.append(_compared(told, rivals, partial(_tail_over, record, pattern), "0.20"))
    return "\n".join(lines)


def settings(record: Figures) -> str:
    """What was tried of each peer."""
    lines = ["| peer | best | all tried, answers a second |", "|---|---|---|"]
    for name, tries in record["tried"].items():
        best, _ = setting_of(record, name)
        rates = "; ".join(
            f"{setting_tried(tried)}: {tried.get('answered_per_second', 0.0):.0f}"
            for tried in tries
        )
        lines.append(f"| {name} {_version(name)} | {best or 'did not start'} | {rates} |")
    return "\n".join(lines)


def filled(text: str) -> str:
    """A page with the tables of all committed figures between its marks."""
    for title, file in RESULTS.items():
        record = json.loads((ROOT / "bench" / "results" / file).read_text())
        begin, end = f"<!-- {title} -->\n", f"<!-- end of {title} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        body = "\n\n".join((table(record), ratios(record), settings(record)))
        text = f"{before}{begin}{body}\n{end}{after}"
    return text


def write_page() -> None:
    """Set the tables into the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def _line(record: Figures, name: str) -> str:
    looks = looks_of(record, name)
    failed = [
        part["failed"] for part in [*record["tried"].get(name, []), *looks] if "failed" in part
    ]
    if failed:
        return f"| {name} | {failed[0]} | | | | | |"
    alone = [part["one_in_flight"]["p50"] for part in looks]
    over = [part["one_in_flight"]["p50"] / part["bare_forward"]["p50_ms"] for part in looks]
    cost = [part["cpu_ms_per_answer"] for part in looks]
    rates, probes = list(map(saturation_of, looks)), list(map(probes_of, looks))
    told = _spread(rates, ".0f")
    if rates and not any(rates):
        told = f"below {min(probe.rate for look in probes for probe in look):.0f}"
    elif not all(map(bounded, probes)):
        told = f"at least {told}"
    tails = [_spread(tails_of(record, name, pattern), ".0f") for pattern in ("poisson", "bursty")]
    setting = f", {setting_of(record, name)[0]}" if name in PEERS else ""
    figures = (_spread(alone, ".1f"), _spread(over, ".2f"), _spread(cost, ".1f"))
    return f"| {name}{setting} | {' | '.join((*figures, told, *tails))} |"


def _compared(what: str, rivals: Sequence[str], over: Callable[[str], str], asked: str = "") -> str:
    return f"| {what} | {' | '.join(map(over, rivals))} | {asked} |"


def _busy(record: Figures, name: str) -> float:
    parts = [*looks_of(record, name), *(done[name] for done in record["tails"] if name in done)]
    return max((part.get("others_busy") or 0.0 for part in parts), default=0.0)


def _over(record: Figures, name: str, other: str) -> str:
    """Ours over a peer's saturation, of rounds in which both were measured, in turn."""
    pairs = [(done[name], done[other]) for done in record["rounds"] if {name, other} <= set(done)]
    found = [(saturation_of(mine), saturation_of(peer)) for mine, peer in pairs]
    if not found or not all(mine and peer for mine, peer in found):
        return OWED
    known = [all(bounded(probes_of(look)) for look in looks) for looks in zip(*pairs, strict=True)]
    bound = {(True, True): "", (False, True): "at least ", (True, False): "at most "}
    ratios = [mine / peer for mine, peer in found]
    return f"{bound.get((known[0], known[1]), 'some ')}{_spread(ratios, '.2f')}"


def _tail_over(record: Figures, pattern: str, other: str) -> str:
    """Ours over a peer's p99, of rounds in turn."""
    both = [done for done in record["tails"] if {OURS, other} <= set(done)]
    if not both:
        return OWED
    in_turn = record | {"tails": both}
    pairs = zip(*(tails_of(in_turn, name, pattern) for name in (OURS, other)), strict=True)
    return _spread([inf if own == inf else own / theirs for own, theirs in pairs], ".2f")


def _all(record: Figures) -> list[Figures]:
    rounds = [*record["rounds"], *record["tails"]]
    return [*record["served"].values(), *(look for done in rounds for look in done.values())]


def _spread(values: Sequence[float], form: str) -> str:
    if not values:
        return ""
    middle = f"{statistics.median(values):{form}}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):{form}} to {max(values):{form}})"


def _version(name: str) -> str:
    return PEERS[name].packages[0].partition("==")[2]


if __name__ == "__main__":
    write_page()
