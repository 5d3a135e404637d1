"""What steps run on: the device, the threads that step it, and the backend that suits it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import torch

from offramp.model.checkpoint import Checkpoint
from offramp.model.rules import RuleKind
from offramp.server.backend import TorchBackend
from offramp.server.config import ServerConfig
from offramp.server.control_group import allowed_cores
from offramp.server.device import STEPS_IN_FLIGHT, DeviceBackend
from offramp.server.warmup import WarmBackend

LOOP_THREADS = 2
"""Of a product on the event loop, where a lone request may run; more were not measured."""

MOST_WORKERS = 4
"""Of the default: more would wait for Python's lock rather than run."""


class MeasuredBackend(WarmBackend, Protocol):
    """A backend that counts the token positions that it computed beyond its requests' tokens."""

    padding: int


MakeBackend = Callable[[Checkpoint, int, torch.device], MeasuredBackend]
"""Builds what runs a checkpoint's stages, of the checkpoint, the number of slots and the device."""


def usable_device(name: str) -> torch.device:
    """The device of this name; raises ValueError if torch can't put anything on it."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).tolist()
    except (RuntimeError, AssertionError, ImportError) as error:
        cause = str(error).partition("\n")[0]
        raise ValueError(f"device {name!r} is not usable here: {cause}") from error
    return device


def workers_of(device: torch.device, config: ServerConfig) -> int:
    """Steps that run at the same time: as told, one on a GPU, one for each core of a small CPU."""
    if config.workers:
        return config.workers
    return 1 if device.type == "cuda" else min(_cores(config), MOST_WORKERS)


def step_threads(device: torch.device, config: ServerConfig) -> ThreadPoolExecutor:
    """The threads that run steps: one for each worker, or on a GPU for each step in flight.

    Each lets torch use `config.threads` threads for a step; 0 shares the cores out.
    """
    workers, threads = workers_of(device, config), _threads_of(device, config)
    return ThreadPoolExecutor(
        max(workers, STEPS_IN_FLIGHT) if device.type == "cuda" else workers,
        "offramp-device",
        initializer=torch.set_num_threads,
        initargs=(threads,),
    )


def share_loop_steps(device: torch.device, config: ServerConfig) -> bool:
    """Let steps on this thread, the event loop's, use what workers may; whether it is more cores.

    Each worker's threads are its own, so this does not touch them. With several models it is not
    done: a step of one would hold up the others.
    """
    if device.type != "cpu" or len(config.checkpoints) > 1:
        return False
    threads = min(LOOP_THREADS, workers_of(device, config) * _threads_of(device, config))
    torch.set_num_threads(threads)
    torch.get_num_threads()  # makes the number this thread's own; until then it is every thread's
    return threads > 1


def suitable_backend(config: ServerConfig) -> MakeBackend:
    """The backend for the device and the checkpoint's exit rule."""
    limits = config.limits

    def make(checkpoint: Checkpoint, slots: int, device: torch.device) -> MeasuredBackend:
        # What the graphs read is scored by `max_prob` alone.
        if device.type != "cuda" or checkpoint.calibration.rule.kind is not RuleKind.MAX_PROB:
            return TorchBackend(checkpoint, slots, device, config.precision)
        return DeviceBackend(
            checkpoint,
            slots,
            device,
            max_rows=limits.max_batch_rows,
            max_tokens=limits.max_batch_tokens,
            precision=config.precision,
        )

    return make


def _threads_of(device: torch.device, config: ServerConfig) -> int:
    """Threads of a worker's step."""
    return config.threads or max(1, _cores(config) // workers_of(device, config))


def _cores(config: ServerConfig) -> int:
    """Cores of this process's share, one at least."""
    return max(1, allowed_cores() // config.processes)
