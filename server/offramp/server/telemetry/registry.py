"""Where the server counts: plain dictionaries on the event loop, read when somebody collects.

An SDK instrument costs about 10 µs a record, a sum or a bucket that is at hand 0.1 to 0.3 µs. So
counters and gauges are observable instruments over these, and histograms are counted into buckets
here and added to what the readers collect (readers.py). Attributes are made when somebody
collects. Every name must be in the catalog.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from math import inf

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics.export import HistogramDataPoint

from offramp.server.telemetry.catalog import BY_NAME, CATALOG, MODEL, Kind, Metric

Value = str | int | bool | None
"""Of an attribute; None leaves it out."""


class Sum:
    """One sum of a counter, to be added to."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total: float = 0


class Counter:
    """Sums of one metric by the values of its attributes, given in the catalog's order."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._sums: dict[tuple[Value, ...], Sum] = {}

    def of(self, *values: Value) -> Sum:
        """The sum of these attribute values; keep it where it is often added to."""
        found = self._sums.get(values)
        if found is None:
            found = self._sums[values] = Sum()
        return found

    def add(self, amount: float, *values: Value) -> None:
        """Add to the sum of these attribute values."""
        self.of(*values).total += amount

    def observe(self, _: CallbackOptions) -> Iterable[Observation]:
        """What an observable counter tells."""
        for values, found in tuple(self._sums.items()):
            yield Observation(found.total, attributes_of(self._metric, values))


class Gauge:
    """Readings of one metric, taken when somebody collects."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._readers: dict[tuple[Value, ...], Callable[[], float | None]] = {}

    def add(self, read: Callable[[], float | None], *values: Value) -> None:
        """Read with these attribute values; a reading of None is left out."""
        self._readers[values] = read

    def forget(self, model: str) -> None:
        """Read this model no more, if it is models that are read."""
        if self._metric.attributes[:1] == (MODEL,):
            self._readers = {v: read for v, read in self._readers.items() if v[0] != model}

    def observe(self, _: CallbackOptions) -> Iterable[Observation]:
        """What an observable gauge tells."""
        for values, read in tuple(self._readers.items()):
            reading = read()
            if reading is not None:
                yield Observation(reading, attributes_of(self._metric, values))


class Buckets:
    """One distribution: counts between bounds, sum and extremes."""

    __slots__ = ("_bounds", "counts", "largest", "smallest", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.smallest, self.largest = inf, -inf

    def record(self, value: float, times: int = 1) -> None:
        """Count a value, several times if it holds for several."""
        self.counts[bisect_left(self._bounds, value)] += times
        self.total += value * times
        if value < self.smallest:  # noqa: PLR1730 - half the time of min()
            self.smallest = value
        if value > self.largest:  # noqa: PLR1730
            self.largest = value


class Histogram:
    """Distributions of one metric by the values of its attributes."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._started = time.time_ns()
        self._buckets: dict[tuple[Value, ...], Buckets] = {}

    def of(self, *values: Value) -> Buckets:
        """The distribution of these attribute values; keep it where it is recorded often."""
        buckets = self._buckets.get(values)
        if buckets is None:
            buckets = self._buckets[values] = Buckets(self.metric.bounds)
        return buckets

    def points(self, now: int) -> list[HistogramDataPoint]:
        """Everything recorded since the start, as the SDK's data points; `now` in ns."""
        found: list[HistogramDataPoint] = []
        for values, buckets in tuple(self._buckets.items()):
            counts = tuple(buckets.counts)
            if not any(counts):
                continue
            found.append(
                HistogramDataPoint(
                    attributes=attributes_of(self.metric, values),
                    start_time_unix_nano=self._started,
                    time_unix_nano=now,
                    count=sum(counts),
                    sum=buckets.total,
                    bucket_counts=counts,
                    explicit_bounds=self.metric.bounds,
                    min=buckets.smallest,
                    max=buckets.largest,
                )
            )
        return found


class Registry:
    """All metrics of the catalog, by name."""

    def __init__(self) -> None:
        self._counters = {m.name: Counter(m) for m in CATALOG if m.kind is Kind.COUNTER}
        self._gauges = {m.name: Gauge(m) for m in CATALOG if m.kind is Kind.GAUGE}
        self._histograms = {m.name: Histogram(m) for m in CATALOG if m.kind is Kind.HISTOGRAM}

    def counter(self, name: str) -> Counter:
        """The counter of this name; raises KeyError if the catalog has none."""
        return self._counters[name]

    def gauge(self, name: str, read: Callable[[], float | None], *values: Value) -> None:
        """Let the gauge of this name read so; raises KeyError if the catalog has none."""
        self._gauges[name].add(read, *values)

    def forget(self, model: str) -> None:
        """Let no gauge read this model any more; what was counted of it stays."""
        for gauge in self._gauges.values():
            gauge.forget(model)

    def histogram(self, name: str) -> Histogram:
        """The histogram of this name; raises KeyError if the catalog has none."""
        return self._histograms[name]

    def histograms(self) -> Iterable[Histogram]:
        """All of them."""
        return self._histograms.values()

    def attach(self, meter: Meter) -> None:
        """Let a meter observe the counters and gauges."""
        for name, counter in self._counters.items():
            metric = BY_NAME[name]
            meter.create_observable_counter(
                name, [counter.observe], metric.unit, metric.description
            )
        for name, gauge in self._gauges.items():
            metric = BY_NAME[name]
            meter.create_observable_gauge(name, [gauge.observe], metric.unit, metric.description)


def attributes_of(metric: Metric, values: tuple[Value, ...]) -> Mapping[str, str | int | bool]:
    """Names and values of attributes; raises ValueError if there are more or fewer."""
    return {
        name: value
        for name, value in zip(metric.attributes, values, strict=True)
        if value is not None
    }
