"""What calibration knows of a checkpoint: temperatures, default threshold, trade-off table."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from torch import Tensor

HIGHEST_CONFIDENCE = 1.0 - 2.0**-24
"""The largest float32 below 1. Confidences are cut here, so no reading reaches a threshold of 1
and that threshold means full depth."""


@dataclass(frozen=True, slots=True)
class Readings:
    """What one exit head says of a batch.

    `labels` is int64 `[rows]`, `confidences` float64 `[rows]` in (0, 1), `probabilities` float32
    `[rows, labels]`.
    """

    labels: Tensor
    confidences: Tensor
    probabilities: Tensor


def read(logits: Tensor, temperature: float) -> Readings:
    """Readings of `[rows, labels]` logits: the softmax scaled by the exit's temperature.

    Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017).
    """
    probabilities = (logits.float() / temperature).softmax(-1)
    confidences, labels = probabilities.max(-1)
    return Readings(labels, confidences.clamp(max=HIGHEST_CONFIDENCE).double(), probabilities)


@dataclass(frozen=True, slots=True)
class TradeOff:
    """What one threshold gives.

    Accuracy, `accuracy_drop` below full depth and `agreement` with full depth are shares, 0 to 1;
    mean layers run, and the layer speedup, which is all layers over these.
    """

    threshold: float
    accuracy: float
    accuracy_drop: float
    agreement: float
    mean_layers: float
    layer_speedup: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """One temperature per exit, the threshold used when a request names none, and the table.

    The table ascends in threshold and ends with threshold 1, full depth. A model that was never
    calibrated has temperatures of 1, full depth as its default and no table.
    """

    temperatures: tuple[float, ...]
    default_threshold: float
    table: tuple[TradeOff, ...]

    def __post_init__(self) -> None:
        if any(not temperature > 0 for temperature in self.temperatures):
            raise ValueError(f"temperatures must be positive, not {self.temperatures}")
        if not 0 <= self.default_threshold <= 1:
            raise ValueError(f"default_threshold must be in 0 to 1, not {self.default_threshold}")
        thresholds = [point.threshold for point in self.table]
        if thresholds != sorted(thresholds) or (thresholds and thresholds[-1] != 1):
            raise ValueError("the trade-off table must ascend in threshold and end with 1")

    @classmethod
    def none(cls, exits: int) -> Self:
        """The calibration of a model that has none yet."""
        return cls(temperatures=(1.0,) * exits, default_threshold=1.0, table=())

    def threshold_within(self, accuracy_drop: float) -> float:
        """The lowest threshold from which on every one in the table loses at most this much.

        Raises LookupError on a checkpoint that has no table.
        """
        if not self.table:
            raise LookupError("this checkpoint has no trade-off table; run `offramp calibrate`")
        chosen = 1.0
        for point in reversed(self.table):
            if point.accuracy_drop > accuracy_drop:
                break
            chosen = point.threshold
        return chosen

    def to_dict(self) -> dict[str, Any]:
        """The JSON form that `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the JSON form; raises ValueError, KeyError or TypeError where it is not one."""
        return cls(
            temperatures=tuple(float(value) for value in values["temperatures"]),
            default_threshold=float(values["default_threshold"]),
            table=tuple(TradeOff(**point) for point in values["table"]),
        )
