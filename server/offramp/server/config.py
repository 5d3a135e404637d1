"""What the server is told, read once and validated with sentences."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from offramp.model.directory import name_of
from offramp.model.precision import Precision

HARD_LIMIT = 4
"""gRPC itself cuts messages off at so many times the limit, above which we refuse them in words."""

MOST = 2**31 - 1
"""gRPC's options are numbers of 32 bits, and nobody needs more slots than those count."""

MOST_THREADS = 1024
MOST_PROCESSES = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one served model; see SchedulerConfig for what each means.

    While the predicted delay of the queue stays above `overload_delay` seconds, thresholds are
    lowered along the checkpoint's trade-off table, as far as it promises to lose at most
    `overload_accuracy_drop` of accuracy; 0 never lowers them. With two `steps_in_flight` the next
    full batch is cut while one runs. With `skip_costly_exits` an exit whose reading costs more than
    it is expected to save is not read, and an answer's exit depends on whom it is batched with. On
    a CPU a step predicted to take less than `at_once` seconds runs on the event loop, for handing
    it to a thread and back would take longer; so does one of a request that is alone and came right
    after an answer, as those before it, up to `alone_at_once` seconds, for two cores share it.
    """

    slots: int = 64
    max_batch_rows: int = 32
    max_batch_tokens: int = 512
    max_queue_requests: int = 2048
    overload_accuracy_drop: float = 0.0
    overload_delay: float = 0.5
    steps_in_flight: int = 1
    skip_costly_exits: bool = False
    at_once: float = 5e-4
    alone_at_once: float = 4e-3

    def __post_init__(self) -> None:
        if not 0 <= self.overload_accuracy_drop <= 1:
            raise ValueError(
                f"overload_accuracy_drop must be 0 to 1, not {self.overload_accuracy_drop}"
            )
        if not 0 < self.overload_delay < inf:
            raise ValueError(f"overload_delay must be above 0, not {self.overload_delay}")
        for name in ("slots", "max_batch_rows", "max_batch_tokens", "max_queue_requests"):
            if getattr(self, name) > MOST:
                raise ValueError(f"{name} must be at most {MOST}, not {getattr(self, name)}")
        if self.steps_in_flight not in (1, 2):
            raise ValueError(f"steps_in_flight must be 1 or 2, not {self.steps_in_flight}")


GPU_LIMITS: Mapping[str, Any] = {
    "slots": 2048,
    "max_batch_rows": 512,
    "max_batch_tokens": 8192,
    "max_queue_requests": 16_384,
    "steps_in_flight": 2,
}
"""What suits a GPU: it wants large steps, and the next one before it is through with the last."""

GPU_PRECISION = Precision.FLOAT16
"""As fast there as bfloat16, and closer to float32."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Everything the server is told.

    `address` is HOST:PORT, where port 0 picks a free one. The first checkpoint answers requests
    that name no model. `workers` is the number of steps that run at the same time, `threads` are
    torch's for one step; 0 shares the cores out, a thread a worker. `processes` counts the servers
    that share the address, the cores and the device, this one among them. `precision` is that of
    the large matrix products. Messages may hold `max_inputs` texts and `max_message_bytes`; a
    stream has at most `stream_window` inputs unanswered. On SIGTERM the server waits `drain_pause`
    seconds for balancers to look away, then finishes what it holds within `drain_grace` seconds.

    With `certificate` and `private_key` (PEM files) the port speaks TLS; with a `token_file`, one
    token a line, calls must carry one of them. Connections older than `max_connection_age` seconds
    are asked to come again, so that balancers can spread them; 0 leaves them alone.

    In idle time a `shadow_share` of the answered requests (0 to 1) runs on to full depth, and the
    agreement of the last `shadow_window` of them is told. With `guard` the threshold of requests
    that name none is raised while they agree less often than the checkpoint's table promises.
    """

    address: str
    checkpoints: tuple[Path, ...]
    device: str = "cpu"
    workers: int = 0
    threads: int = 0
    processes: int = 1
    precision: Precision = Precision.FLOAT32
    limits: Limits = field(default_factory=Limits)
    max_inputs: int = 256
    max_message_bytes: int = 16 * 2**20
    stream_window: int = 256
    drain_pause: float = 0.0
    drain_grace: float = 30.0
    certificate: Path | None = None
    private_key: Path | None = None
    token_file: Path | None = None
    max_connection_age: float = 0.0
    shadow_share: float = 0.0
    shadow_window: int = 400
    guard: bool = False

    def __post_init__(self) -> None:
        host, _, port = self.address.rpartition(":")
        number = port.isascii() and port.isdecimal() and int(port) <= 65_535
        bare = ":" in host and not (host.startswith("[") and host.endswith("]"))
        if not host or "/" in host or not number or bare:
            raise ValueError(
                "address must be HOST:PORT, like 127.0.0.1:50051 or [::1]:50051, not"
                f" {self.address}"
            )
        if not self.checkpoints:
            raise ValueError("name at least one checkpoint")
        names = [name_of(path) for path in self.checkpoints]
        if len(set(names)) != len(names):
            raise ValueError(f"checkpoint directories must have different names, not {names}")
        at_least_one = ("processes", "max_inputs", "max_message_bytes", "stream_window")
        for name in (*at_least_one, "shadow_window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("workers", "threads", "drain_pause", "drain_grace", "max_connection_age"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"{name} must be 0 or more, not {getattr(self, name)}")
        for name, most in (
            ("workers", MOST_THREADS),
            ("threads", MOST_THREADS),
            ("processes", MOST_PROCESSES),
            ("max_message_bytes", MOST // HARD_LIMIT),
            ("max_connection_age", MOST // 1000),  # gRPC counts in milliseconds
        ):
            if getattr(self, name) > most:
                raise ValueError(f"{name} must be at most {most}, not {getattr(self, name)}")
        if not 0 <= self.shadow_share <= 1:
            raise ValueError(f"shadow_share must be in 0 to 1, not {self.shadow_share}")
        if self.guard and not self.shadow_share:
            raise ValueError("the guard needs a shadow_share above 0, like 0.02")
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("TLS needs both a certificate and a private key")
