"""The memory gauges: the process's on a CPU, torch's share and the whole device's on a GPU."""

from types import SimpleNamespace

import pytest
import torch
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from offramp.server.telemetry.process_metrics import watch_memory
from offramp.server.telemetry.registry import Registry


def read(device: str, forgotten: str = "") -> dict[str, tuple[float, object]]:
    """Value and device attribute of each memory gauge, after a model was forgotten."""
    registry, reader = Registry(), InMemoryMetricReader()
    registry.attach(MeterProvider([reader], shutdown_on_exit=False).get_meter("test"))
    watch_memory(registry, torch.device(device))
    registry.forget(forgotten)
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: (point.value, (point.attributes or {})["offramp.device"])
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        for point in metric.data.data_points
        if isinstance(point, NumberDataPoint) and metric.name.startswith("offramp.device")
    }


def test_a_cpus_is_the_process_among_all_there_is() -> None:
    found = read("cpu", forgotten="cpu")
    used, limit = found["offramp.device.memory.used"], found["offramp.device.memory.limit"]
    assert 2**24 < used[0] < limit[0]
    assert used[1] == limit[1] == "cpu"


def test_a_gpus_is_what_torch_reserves_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    reserved = {torch.device("cuda:1"): 3 * 2**30}
    whole = {torch.device("cuda:1"): SimpleNamespace(total_memory=80 * 2**30)}
    monkeypatch.setattr(torch.cuda, "memory_reserved", reserved.__getitem__)
    monkeypatch.setattr(torch.cuda, "get_device_properties", whole.__getitem__)
    assert read("cuda:1") == {
        "offramp.device.memory.used": (3 * 2**30, "cuda:1"),
        "offramp.device.memory.limit": (80 * 2**30, "cuda:1"),
    }
