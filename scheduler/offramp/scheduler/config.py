"""The scheduler's limits, validated once."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Limits of one scheduler.

    `stages` is the number of exits. `slots` bounds the requests admitted (their numbers begin at
    `first_slot`), the queue those waiting for a slot. A batch holds at most `max_batch_rows`
    requests and `max_batch_tokens` tokens; one longer request runs alone. As many batches run at
    the same time as there are `workers`, each as fast as it would alone.

    Times are in seconds. A request should run before whoever comes `interactive_patience` after
    it, and a bulk request `bulk_patience` more: so much later may one come that is nearer its
    deadline, or interactive, and still go first. `deadline_margin` is how long before its deadline
    an answer must leave to arrive in time.

    With `exact_exits` an exit is left unread only where nobody in the batch may leave. Without, it
    is also left unread where reading it costs more than it is expected to save, and a request that
    would have left there leaves later: its exit then depends on whom it was batched with.
    """

    stages: int
    slots: int = 64
    first_slot: int = 0
    max_queue_requests: int = 2048
    max_queue_tokens: int = 262_144
    max_batch_rows: int = 32
    max_batch_tokens: int = 512
    workers: int = 1
    interactive_patience: float = 0.1
    bulk_patience: float = 5.0
    deadline_margin: float = 0.002
    exact_exits: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 1 if field.type is int and field.name != "first_slot" else 0
            if not value >= least:
                raise ValueError(f"{field.name} must be at least {least}, not {value}")
