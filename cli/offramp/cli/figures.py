"""Figures of a running server, from two scrapes of its metrics: rates, quantiles, shares, ills."""

from collections.abc import Callable, Iterable
from math import inf, nan

from offramp.cli.scrape import HOST, Labels, Scrape
from offramp.server.telemetry.catalog import BY_NAME

Test = Callable[[Labels], bool]

SERVER_ERRORS = {"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED", "UNIMPLEMENTED"}
FULL, LATE, SLOW_LOOP = 0.8, 5.0, 0.1
"""Share of the queue, seconds to work it off, and of loop lag, from which something is wrong."""


def everything(labels: Labels) -> bool:
    """Any series."""
    del labels
    return True


def _all_exits(labels: Labels) -> bool:
    return labels.get("offramp_exit") == "all"


class Figures:
    """What happened between two scrapes; names are the catalog's."""

    def __init__(self, before: Scrape, now: Scrape) -> None:
        self._before, self._now = before, now
        self.seconds = max(now.time - before.time, 1e-9)

    def gauge(self, name: str, test: Test = everything) -> float | None:
        """The sum of a gauge's series; None if there are none."""
        values = self._values(name, test)
        return sum(values) if values else None

    def rate(self, name: str, test: Test = everything, series: str = "") -> float:
        """Per second, of a counter, or of a histogram's `_sum` or `_count`."""
        return sum(self.rates(name, "", test, series).values())

    def rates(
        self, name: str, by: str, test: Test = everything, series: str = ""
    ) -> dict[str, float]:
        """Per second by the values of one label."""
        found: dict[str, float] = {}
        for sign, scrape in ((1, self._now), (-1, self._before)):
            for labels, value in self._rows(scrape, name, series):
                if test(labels):
                    key = labels.get(by, "")
                    found[key] = found.get(key, 0.0) + sign * value
        # Divided last: of counts that did not change nothing is left.
        return {key: value / self.seconds for key, value in found.items()}

    def mean(self, name: str) -> float:
        """The mean of what a histogram took in; nan if nothing."""
        count = self.rate(name, series="_count")
        return self.rate(name, series="_sum") / count if count > 0 else nan

    def quantile(self, name: str, share: float, test: Test = everything) -> float:
        """A quantile of what a histogram took in, linear within its bucket; nan if nothing."""
        counts = self.rates(name, "le", test, "_bucket")
        rows = sorted((float(bound), count) for bound, count in counts.items())
        if not rows or rows[-1][1] <= 0:
            return nan
        wanted = share * rows[-1][1]
        lower = below = 0.0
        for bound, count in rows:
            if count >= wanted:
                if bound == inf:
                    return lower
                inside = (wanted - below) / (count - below) if count > below else 1.0
                return lower + (bound - lower) * inside
            lower, below = bound, count
        return nan

    @property
    def drain(self) -> float:
        """Seconds until the longest queue is predicted to be worked off."""
        return max(self._values("offramp.queue.drain.predicted"), default=0.0)

    @property
    def agreement(self) -> float | None:
        """Share of answers that agree with full depth, where it is lowest; None if unknown."""
        return min(self._values("offramp.shadow.agreement", _all_exits), default=None)

    @property
    def memory(self) -> float:
        """Share in use of the fullest device, which the servers of a host have together."""
        used, limit = self._memory("used"), self._memory("limit")
        shares = [sum(used.get(at, ())) / max(found) for at, found in limit.items() if max(found)]
        return max(shares, default=0.0)

    @property
    def answers(self) -> float:
        """Requests answered a second."""
        return self.rate("offramp.exits")

    @property
    def saved(self) -> float:
        """Share of full depth's layers that were not run; nan without answers."""
        full = self.rate("offramp.layers.full")
        return 1 - self.rate("offramp.layers.run") / full if full > 0 else nan

    @property
    def depth(self) -> tuple[float, float]:
        """Layers run and layers at full depth, of a mean answer; nan without answers."""
        answers = self.answers
        if answers <= 0:
            return nan, nan
        return self.rate("offramp.layers.run") / answers, self.rate("offramp.layers.full") / answers

    def priorities(self) -> list[str]:
        """Those that were answered, interactive first."""
        found = self.rates("offramp.requests", "offramp_priority")
        return sorted((name for name, rate in found.items() if rate > 0), reverse=True)

    def exits(self) -> dict[int, float]:
        """Answers a second by exit."""
        found = self.rates("offramp.exits", "offramp_exit")
        return dict(sorted((int(left_at), rate) for left_at, rate in found.items()))

    def ills(self) -> list[str]:
        """What is wrong, in words; empty if nothing is."""
        return list(self._ills())

    def _ills(self) -> Iterable[str]:
        def failed(labels: Labels) -> bool:
            return labels.get("rpc_status_code") in SERVER_ERRORS

        calls = self.rate("rpc.server.call.duration", failed, "_count")
        if calls > 0:
            yield f"{calls:.1f} calls a second fail by the server's fault"
        counted = (("rejections", "refused"), ("failures", "failed"), ("invalid", "are invalid"))
        for name, words in counted:
            for reason, rate in self.rates(f"offramp.{name}", "error_type").items():
                if rate > 0:
                    yield f"{rate:.1f} requests a second {words}: {reason}"
        queued, limit = self.gauge("offramp.queue.requests"), self.gauge("offramp.queue.limit")
        if queued and limit and queued > FULL * limit:
            yield f"the queue is {queued / limit:.0%} full"
        if self.drain > LATE:
            yield f"the queue takes {self.drain:.0f} s to work off"
        held = (queued or 0) + (self.gauge("offramp.slots.used") or 0)
        if held and not self.rate("offramp.step.duration", series="_count"):
            yield f"{held:.0f} requests are held and no step runs"
        lag = self.quantile("offramp.event_loop.lag", 0.99)
        if lag > SLOW_LOOP:
            yield f"the event loop is {lag * 1e3:.0f} ms late"
        swaps = self.rates("offramp.swaps", "offramp_outcome")
        if swaps.get("failed", 0.0) > 0:
            yield "a new checkpoint is unusable and the old one is served on; the log says why"
        if self.gauge("offramp.shadow.drift"):
            yield "early answers agree with full depth less often than promised"

    def _memory(self, what: str) -> dict[tuple[str, str], list[float]]:
        """What each server tells, by host and device."""
        found: dict[tuple[str, str], list[float]] = {}
        for labels, value in self._rows(self._now, f"offramp.device.memory.{what}"):
            found.setdefault((labels[HOST], labels["offramp_device"]), []).append(value)
        return found

    def _values(self, name: str, test: Test = everything) -> list[float]:
        """Of a gauge's series, as they are now."""
        return [value for labels, value in self._rows(self._now, name) if test(labels)]

    def _rows(
        self, scrape: Scrape, name: str, series: str = ""
    ) -> tuple[tuple[Labels, float], ...]:
        return scrape.series.get(BY_NAME[name].prometheus + series, ())
