"""Metrics of the process: how late its event loop runs, and the memory of its device."""

import asyncio
from pathlib import Path

import torch

from offramp.server.control_group import PAGE, allowed_memory
from offramp.server.telemetry.registry import Registry

LAG_INTERVAL = 0.1
"""Seconds between two looks at the loop: a tenth of a per mille of its time."""


class LoopLag:
    """Sets an alarm ten times a second and records how late it rings."""

    def __init__(self, registry: Registry) -> None:
        self._lag = registry.histogram("offramp.event_loop.lag").of()
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Watch the running loop until `stop`."""
        self._schedule(asyncio.get_running_loop())

    def stop(self) -> None:
        """Watch no longer."""
        if self._handle is not None:
            self._handle.cancel()

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + LAG_INTERVAL
        self._handle = loop.call_at(due, self._ring, loop, due)

    def _ring(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._lag.record(max(0.0, loop.time() - due))
        self._schedule(loop)


def watch_memory(registry: Registry, device: torch.device) -> None:
    """Let the gauges read the memory of a device, for a CPU that of the process."""
    name = str(device)
    if device.type == "cuda":
        registry.gauge(
            "offramp.device.memory.used", lambda: torch.cuda.memory_reserved(device), name
        )
        total = torch.cuda.get_device_properties(device).total_memory
    else:
        registry.gauge("offramp.device.memory.used", _resident, name)
        total = allowed_memory()
    registry.gauge("offramp.device.memory.limit", lambda: total, name)


def _resident() -> float | None:
    """Bytes of this process in memory; None where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE
    except OSError:
        return None
