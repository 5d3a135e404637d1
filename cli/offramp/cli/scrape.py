"""What a server shows to Prometheus at one time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from prometheus_client.parser import text_string_to_metric_families

from offramp.server.telemetry.catalog import CATALOG, Kind

HOST = "host"
"""A label of ours: the host of the server that told."""

Labels = Mapping[str, str]

COUNTED = tuple(
    metric.prometheus + ("_count" if metric.kind is Kind.HISTOGRAM else "")
    for metric in CATALOG
    if metric.kind is not Kind.GAUGE
)
"""The series that only grow as long as a server runs."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """Every series at one time, in seconds; names are Prometheus's."""

    time: float
    series: Mapping[str, tuple[tuple[Labels, float], ...]]

    @classmethod
    def of(cls, text: str, time: float, host: str = "") -> "Scrape":
        """Read what a server on this host shows to Prometheus; raises ValueError of other text."""
        found: dict[str, list[tuple[Labels, float]]] = {}
        try:
            families = list(text_string_to_metric_families(text))
        except LookupError as error:  # as its parser does of some
            raise ValueError("these are no metrics") from error
        for family in families:
            for sample in family.samples:
                labels = {**sample.labels, HOST: host}
                found.setdefault(sample.name, []).append((labels, sample.value))
        return cls(time, {name: tuple(rows) for name, rows in found.items()})

    @classmethod
    def joined(cls, scrapes: Sequence["Scrape"]) -> "Scrape":
        """The series of several servers, as if one had them all."""
        found: dict[str, tuple[tuple[Labels, float], ...]] = {}
        for scrape in scrapes:
            for name, rows in scrape.series.items():
                found[name] = found.get(name, ()) + rows
        return cls(fmean(scrape.time for scrape in scrapes) if scrapes else 0.0, found)

    def follows(self, before: "Scrape") -> bool:
        """Whether all counts are at least what they were; a server started anew counts from 0."""
        return all(self.sum(name) >= before.sum(name) for name in COUNTED)

    def sum(self, name: str) -> float:
        """Of all series of this name."""
        return sum(value for _, value in self.series.get(name, ()))
