"""The scheduler's limits, validated once."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Limits of one scheduler.

    `stages` is the number of exits. `slots` bounds the requests admitted (their numbers begin at
    `first_slot`), the queue those waiting for a slot. A batch holds at most `max_batch_rows`
    requests and `max_batch_tokens` tokens; one longer request runs alone. Times are in seconds:
    `bulk_patience` is how much later a bulk request may run than an interactive one of the same
    age, `deadline_margin` how long before its deadline an answer must leave to arrive in time.
    """

    stages: int
    slots: int = 64
    first_slot: int = 0
    max_queue_requests: int = 2048
    max_queue_tokens: int = 262_144
    max_batch_rows: int = 32
    max_batch_tokens: int = 512
    bulk_patience: float = 0.5
    deadline_margin: float = 0.002

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.type is float or field.name == "first_slot" else 1
            if not value >= least:
                raise ValueError(f"{field.name} must be at least {least}, not {value}")
