"""The SDK's readers, with the registry's histograms added to what they collect."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    PeriodicExportingMetricReader,
)
from prometheus_client import CollectorRegistry

from offramp.server.telemetry.registry import Registry

Merge = Callable[[MetricsData], MetricsData]


class PushReader(PeriodicExportingMetricReader):
    """Exports every `OTEL_METRIC_EXPORT_INTERVAL` milliseconds, and once more at the end."""

    def __init__(self, exporter: MetricExporter, registry: Registry, *, delta: bool) -> None:
        self._merge = _since_last(registry) if delta else _since_start(registry)
        super().__init__(exporter)

    def _receive_metrics(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super()._receive_metrics(self._merge(metrics_data), timeout_millis, **kwargs)


class ScrapeReader(PrometheusMetricReader):
    """Collects whenever Prometheus asks."""

    def __init__(self, prometheus: CollectorRegistry, registry: Registry) -> None:
        self._merge = _since_start(registry)
        super().__init__(scope_info_enabled=False, registry=prometheus)

    def _receive_metrics(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super()._receive_metrics(self._merge(metrics_data), timeout_millis, **kwargs)


def _since_start(registry: Registry) -> Merge:
    def merge(data: MetricsData) -> MetricsData:
        now = time.time_ns()
        points = {h.metric.name: h.points(now) for h in registry.histograms()}
        return _added(data, registry, points, AggregationTemporality.CUMULATIVE)

    return merge


def _since_last(registry: Registry) -> Merge:
    """Differences, for backends that ask for them."""
    before: dict[tuple[str, frozenset[Any]], HistogramDataPoint] = {}

    def difference(name: str, point: HistogramDataPoint) -> HistogramDataPoint:
        key = (name, frozenset((point.attributes or {}).items()))
        last = before.get(key)
        before[key] = point
        if last is None:
            return point
        return replace(
            point,
            start_time_unix_nano=last.time_unix_nano,
            count=point.count - last.count,
            sum=point.sum - last.sum,
            bucket_counts=tuple(
                now - then
                for now, then in zip(point.bucket_counts, last.bucket_counts, strict=True)
            ),
        )

    def merge(data: MetricsData) -> MetricsData:
        now = time.time_ns()
        points = {
            h.metric.name: [difference(h.metric.name, point) for point in h.points(now)]
            for h in registry.histograms()
        }
        return _added(data, registry, points, AggregationTemporality.DELTA)

    return merge


def _added(
    data: MetricsData,
    registry: Registry,
    points: dict[str, list[HistogramDataPoint]],
    temporality: AggregationTemporality,
) -> MetricsData:
    """What the SDK collected, whose first scope is ours, and the histograms that have points."""
    metrics = [
        Metric(
            h.metric.name,
            h.metric.description,
            h.metric.unit,
            Histogram(points[h.metric.name], temporality),
        )
        for h in registry.histograms()
        if points[h.metric.name]
    ]
    resource, *others = data.resource_metrics
    scope, *scopes = resource.scope_metrics
    scope = replace(scope, metrics=[*scope.metrics, *metrics])
    resource = replace(resource, scope_metrics=[scope, *scopes])
    return replace(data, resource_metrics=[resource, *others])
