"""What steps run on: the device, the threads that step it, and the backend that suits it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import torch

from offramp.model.checkpoint import Checkpoint
from offramp.model.rules import RuleKind
from offramp.server.backend import TorchBackend
from offramp.server.config import ServerConfig
from offramp.server.device import STEPS_IN_FLIGHT, DeviceBackend
from offramp.server.warmup import WarmBackend


class MeasuredBackend(WarmBackend, Protocol):
    """A backend that counts the token positions that it computed beyond its requests' tokens."""

    padding: int


MakeBackend = Callable[[Checkpoint, int, torch.device], MeasuredBackend]
"""Builds what runs a checkpoint's stages, of the checkpoint, the number of slots and the device."""


def usable_device(name: str) -> torch.device:
    """The device of this name; raises ValueError if torch can't put anything on it."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        cause = str(error).partition("\n")[0]
        raise ValueError(f"device {name!r} is not usable here: {cause}") from error
    return device


def step_threads(device: torch.device, threads: int) -> ThreadPoolExecutor:
    """The threads that run steps: one, or on a GPU one for each step in flight.

    Each lets torch use `threads` threads for a step; 0 leaves that to torch.
    """
    workers = STEPS_IN_FLIGHT if device.type == "cuda" else 1
    return ThreadPoolExecutor(
        workers, "offramp-device", initializer=_use_threads, initargs=(threads,)
    )


def suitable_backend(config: ServerConfig) -> MakeBackend:
    """The backend for the device and the checkpoint's exit rule."""
    limits = config.limits

    def make(checkpoint: Checkpoint, slots: int, device: torch.device) -> MeasuredBackend:
        # The graphs read confidences; rules that remember are scored step by step.
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


def _use_threads(threads: int) -> None:
    if threads:
        torch.set_num_threads(threads)
