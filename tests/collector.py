"""An OTLP collector: a real gRPC server that keeps what it is sent, of all three signals."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import (  # pyright: ignore[reportMissingTypeStubs]
    logs_service_pb2 as logs_pb,
)
from opentelemetry.proto.collector.logs.v1 import (  # pyright: ignore[reportMissingTypeStubs]
    logs_service_pb2_grpc as logs_grpc,
)
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector(
    metrics_grpc.MetricsServiceServicer,
    trace_grpc.TraceServiceServicer,
    logs_grpc.LogsServiceServicer,
):
    """Everything received so far."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.services: set[str] = set()
        self.exports: list[list[Metric]] = []
        self.spans: list[Span] = []
        self.logs: list[LogRecord] = []

    def Export(self, request: Any, context: object) -> Any:  # noqa: ANN401, N802
        """Keep what any of the three services is sent; their messages tell them apart."""
        match request:
            case metrics_pb.ExportMetricsServiceRequest():
                scopes = [s for r in request.resource_metrics for s in r.scope_metrics]
                self._resources(request.resource_metrics)
                self.exports.append([metric for scope in scopes for metric in scope.metrics])
                return metrics_pb.ExportMetricsServiceResponse()
            case trace_pb.ExportTraceServiceRequest():
                self._resources(request.resource_spans)
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        self.spans += scope.spans
                return trace_pb.ExportTraceServiceResponse()
            case logs_pb.ExportLogsServiceRequest():
                self._resources(request.resource_logs)
                for sent in request.resource_logs:
                    for log_scope in sent.scope_logs:
                        self.logs += log_scope.log_records
                return logs_pb.ExportLogsServiceResponse()
            case _:
                raise TypeError(type(request))

    @property
    def metrics(self) -> dict[str, Metric]:
        """The last export's metrics by name."""
        return {metric.name: metric for metric in self.exports[-1]}

    def _resources(self, resources: Any) -> None:  # noqa: ANN401
        for one in resources:
            self.services.add(str(attributes(one.resource.attributes)["service.name"]))


@contextmanager
def collecting() -> Generator[Collector]:
    """A collector on a free port."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    add: Any
    for add in (
        metrics_grpc.add_MetricsServiceServicer_to_server,
        trace_grpc.add_TraceServiceServicer_to_server,
        logs_grpc.add_LogsServiceServicer_to_server,
    ):
        add(collector, server)
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()


def attributes(pairs: Any) -> dict[str, str | int | float | bool]:  # noqa: ANN401
    """Attributes as a dictionary."""
    return {pair.key: _value(pair.value) for pair in pairs if isinstance(pair, KeyValue)}


def points(metric: Metric) -> list[Any]:
    """The data points of a metric of any kind."""
    return list(getattr(metric, str(metric.WhichOneof("data"))).data_points)


def _value(value: AnyValue) -> str | int | float | bool:
    return getattr(value, str(value.WhichOneof("value")))  # type: ignore[no-any-return]
