"""What a client gets back, frozen."""

from dataclasses import dataclass
from enum import StrEnum


class ExitReason(StrEnum):
    """Why a request left the encoder where it did."""

    UNSPECIFIED = "unspecified"
    CONFIDENT = "confident"
    FINAL = "final"
    DEADLINE = "deadline"
    LIMIT = "limit"
    OVERLOAD = "overload"


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of a request went inside the server, in seconds."""

    queue: float
    compute: float
    total: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The classification of one input.

    `confidence` is the probability of the label, 0 to 1. `exit` is the index of the exit it left
    at, of `exits`, after `layer` of `layers` layers, and `reason` says why there. `threshold` is
    what held for it: the exit rule's score is compared with that, which grows with the confidence
    and need not be the same number. `tokens` were read, special ones included; `truncated` says
    whether the end of the text was cut off.
    `probabilities` are those of all labels in the model's order, if asked for, else empty.
    `index` is the input's place in what `classify_many` was given, 0 for a single input.
    """

    label: str
    label_index: int
    confidence: float
    exit: int
    exits: int
    layer: int
    layers: int
    reason: ExitReason
    tokens: int
    truncated: bool
    threshold: float
    model: str
    timing: Timing
    probabilities: tuple[float, ...] = ()
    index: int = 0


@dataclass(frozen=True, slots=True)
class TradeOff:
    """What a threshold gives on held-out data, against full depth; shares are 0 to 1.

    The bounds are what drop and disagreement stay below with 95 % confidence; 1 is no promise.
    """

    threshold: float
    accuracy: float
    accuracy_drop: float
    agreement: float
    mean_layers: float
    layer_speedup: float
    accuracy_drop_bound: float
    disagreement_bound: float


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that a server serves; `exit_layers` and `temperatures` have one entry an exit.

    `digest` identifies the checkpoint's files; it is another one after a swap.
    """

    name: str
    labels: tuple[str, ...]
    exit_layers: tuple[int, ...]
    temperatures: tuple[float, ...]
    layers: int
    token_limit: int
    default_threshold: float
    trade_offs: tuple[TradeOff, ...]
    digest: str
