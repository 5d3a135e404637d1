"""Which signals go where, from the standard `OTEL_*` variables; nothing is built that none names.

`OTEL_METRICS_EXPORTER`, `OTEL_TRACES_EXPORTER` and `OTEL_LOGS_EXPORTER` are lists of `otlp`,
`console`, `none` and, for metrics, `prometheus`. With an OTLP endpoint given they default to
`otlp`, otherwise to `none`. The SDK and its exporters read the rest: endpoints, protocol, headers,
sampler, intervals, limits. Providers are ours alone, never the process's global ones.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points, version
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry, start_http_server

from offramp.server.telemetry.propagation import extractor
from offramp.server.telemetry.readers import PushReader, ScrapeReader
from offramp.server.telemetry.registry import Registry
from offramp.server.telemetry.scrapes import harden

NAME = "offramp"
SIGNALS = ("traces", "metrics", "logs")
PROTOCOLS = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
SCRAPE_HOST, SCRAPE_PORT = "localhost", "9464"
HIGHEST_PORT = 65_535
CLOSING = 3.0
"""Seconds to send what is left at the end, all signals together: a collector may be gone."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What is switched on: each signal is None where nobody asked for it.

    `scrape_port` is where Prometheus finds the metrics, `log_texts` lets failures tell the texts
    they are of. `close` sends what is left: it calls the `closers`, each on a thread.
    """

    registry: Registry | None = None
    tracer: Tracer | None = None
    logs: LoggerProvider | None = None
    scrape_port: int | None = None
    log_texts: bool = False
    closers: tuple[Callable[[], object], ...] = field(default=())

    def close(self) -> None:
        """Send what is left and stop sending, all at a time; what takes too long is given up."""
        ends = time.monotonic() + CLOSING
        threads = [threading.Thread(target=close, daemon=True) for close in self.closers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, ends - time.monotonic()))


OFF = Telemetry()


def configure(*, log_texts: bool = False) -> Telemetry:
    """Build what the environment names; raises ValueError on an exporter that there is not.

    Raises OSError if Prometheus's port is taken or not ours.
    """
    off = replace(OFF, log_texts=log_texts)
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return off
    names = {signal: exporter_names(signal) for signal in SIGNALS}
    if not any(names.values()):
        return off
    # All that may be refused comes first: what is built here has threads, which would stay.
    if names["traces"]:
        extractor()
    scraped = "prometheus" in names["metrics"]
    names["metrics"] = [name for name in names["metrics"] if name != "prometheus"]
    exporters = {
        signal: [(name, _exporter(signal, name)) for name in names[signal]] for signal in SIGNALS
    }
    closers: list[Callable[[], object]] = []
    registry = tracer = logs = port = None
    if exporters["metrics"] or scraped:
        registry = Registry()
        port, closing = _meter(exporters["metrics"], registry, scraped=scraped)
        closers += closing
    if names["traces"]:
        tracing = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        for _, exporter in exporters["traces"]:
            tracing.add_span_processor(BatchSpanProcessor(exporter))
        tracer = tracing.get_tracer(NAME)
        closers.append(tracing.shutdown)
    if names["logs"]:
        logs = LoggerProvider(_resource(), shutdown_on_exit=False)
        for _, exporter in exporters["logs"]:
            logs.add_log_record_processor(BatchLogRecordProcessor(exporter))
        closers.append(logs.shutdown)
    return Telemetry(registry, tracer, logs, port, log_texts, closers=tuple(closers))


def exporter_names(signal: str) -> list[str]:
    """The exporters of a signal that the environment names; raises ValueError of no protocol."""
    environ = os.environ
    upper = signal.upper()
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{upper}_ENDPOINT")
    default = "otlp" if any(environ.get(name) for name in endpoints) else "none"
    given = environ.get(f"OTEL_{upper}_EXPORTER") or default
    names = [name.strip() for name in given.split(",") if name.strip() not in {"", "none"}]
    protocols = (f"OTEL_EXPORTER_OTLP_{upper}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next(filter(None, map(environ.get, protocols)), "grpc")
    if "otlp" in names and protocol not in PROTOCOLS:
        raise ValueError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL must be one of {', '.join(PROTOCOLS)}, not {protocol!r}"
        )
    return [PROTOCOLS[protocol] if name == "otlp" else name for name in names]


def _exporter(signal: str, name: str) -> Any:  # noqa: ANN401 - each signal has its own kind
    """The exporter as its package registers it; it reads its own variables."""
    group = entry_points(group=f"opentelemetry_{signal}_exporter")
    found = [entry for entry in group if entry.name == name]
    if not found:
        known = sorted({entry.name for entry in group} | {"none", "otlp"})
        raise ValueError(
            f"OTEL_{signal.upper()}_EXPORTER names {name!r}; there are {', '.join(known)}"
        )
    try:
        return found[0].load()()
    except Exception as error:  # each has its own kinds for values that it can't read
        raise ValueError(
            f"the exporter of {signal}, {name}, cannot use its OTEL_EXPORTER_* variables: {error}"
        ) from error


def _meter(
    exporters: Sequence[tuple[str, Any]], registry: Registry, *, scraped: bool
) -> tuple[int | None, list[Callable[[], object]]]:
    """A provider that observes the registry; the port for Prometheus, and how to close it all."""
    environ = os.environ
    port = None
    closers: list[Callable[[], object]] = []
    readers: list[PushReader | ScrapeReader] = []
    if scraped:
        families = CollectorRegistry()
        readers.append(ScrapeReader(families, registry))
        host = environ.get("OTEL_EXPORTER_PROMETHEUS_HOST") or SCRAPE_HOST
        wanted = environ.get("OTEL_EXPORTER_PROMETHEUS_PORT") or SCRAPE_PORT
        if not wanted.isdecimal() or int(wanted) > HIGHEST_PORT:
            raise ValueError(
                f"OTEL_EXPORTER_PROMETHEUS_PORT must be a port, 0 to {HIGHEST_PORT}, not {wanted!r}"
            )
        try:
            server, _ = start_http_server(int(wanted), host, families)
        except OSError as error:
            raise OSError(
                f"cannot be scraped at {host}:{wanted}: {error.strerror}; choose another place by"
                " OTEL_EXPORTER_PROMETHEUS_HOST and OTEL_EXPORTER_PROMETHEUS_PORT"
            ) from error
        port = server.server_port
        closers.append(harden(server))
    temporality = environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "").lower()
    readers += [
        PushReader(
            exporter,
            registry,
            delta=name in PROTOCOLS.values() and temporality in {"delta", "lowmemory"},
        )
        for name, exporter in exporters
    ]
    provider = MeterProvider(readers, _resource(), shutdown_on_exit=False)
    registry.attach(provider.get_meter(NAME, version(NAME)))
    return port, [provider.shutdown, *closers]


def _resource() -> Resource:
    """The environment's service name and attributes over our own."""
    ours = Resource({"service.name": NAME, "service.version": version(NAME)})
    return Resource.create(ours.merge(OTELResourceDetector().detect()).attributes)
