"""What calibration knows of a checkpoint: temperatures, exit rule, trade-off table, promises."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from math import inf, isfinite
from typing import Any, Self

from offramp.model.rules import PLAIN, ExitRule

NO_TABLE = "this checkpoint has no trade-off table; run `offramp calibrate`"


@dataclass(frozen=True, slots=True)
class TradeOff:
    """What one threshold gives.

    Accuracy, `accuracy_drop` below full depth and `agreement` with full depth are shares, 0 to 1;
    mean layers run, and the layer speedup, which is all layers over these. The bounds are what
    drop and disagreement stay below with 95 % confidence on texts like those measured; a table
    without bounds promises nothing, which is 1.
    """

    threshold: float
    accuracy: float
    accuracy_drop: float
    agreement: float
    mean_layers: float
    layer_speedup: float
    accuracy_drop_bound: float = 1.0
    disagreement_bound: float = 1.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, float | int) or not isfinite(value):
                raise ValueError(f"{name} of the trade-off table must be a number, not {value!r}")


@dataclass(frozen=True, slots=True)
class Calibration:
    """One temperature per exit, the exit rule, the default threshold, and the table.

    The table ascends in threshold and ends with threshold 1, full depth. A model that was never
    calibrated has temperatures of 1, full depth as its default and no table.
    """

    temperatures: tuple[float, ...]
    default_threshold: float
    table: tuple[TradeOff, ...]
    rule: ExitRule = PLAIN

    def __post_init__(self) -> None:
        if any(not 0 < temperature < inf for temperature in self.temperatures):
            raise ValueError(f"temperatures must be positive and finite, not {self.temperatures}")
        if not self.rule.fits(len(self.temperatures)):
            raise ValueError(f"the rule is not for {len(self.temperatures)} exits")
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
        """The lowest threshold that is promised to lose at most this share of accuracy.

        The promise holds with 95 % confidence on texts like those of calibration. Raises
        LookupError on a checkpoint that has no table.
        """
        return self._lowest(lambda point: point.accuracy_drop_bound <= accuracy_drop)

    def threshold_agreeing(self, disagreement: float) -> float:
        """The lowest threshold that is promised to answer otherwise than full depth at most so.

        As `threshold_within`, for the share of answers that differ from full depth's.
        """
        return self._lowest(lambda point: point.disagreement_bound <= disagreement)

    def _lowest(self, accepted: Callable[[TradeOff], bool]) -> float:
        """Fixed-sequence testing: from the safest threshold down, stop at the first refusal.

        Angelopoulos et al., "Learn then Test" (2021): tested in an order fixed beforehand, each
        at the full level, all that are accepted hold together at that level.
        """
        if not self.table:
            raise LookupError(NO_TABLE)
        chosen = 1.0
        for point in reversed(self.table):
            if point.threshold < 1 and not accepted(point):
                break
            chosen = point.threshold
        return chosen

    def to_dict(self) -> dict[str, Any]:
        """The JSON form that `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the JSON form; raises ValueError, KeyError or TypeError where it is not one."""
        names = {field.name for field in fields(cls)}
        if unknown := sorted(values.keys() - names):
            raise ValueError(f"unknown keys {unknown}; known are {sorted(names)}")
        return cls(
            temperatures=tuple(float(value) for value in values["temperatures"]),
            default_threshold=float(values["default_threshold"]),
            table=tuple(TradeOff(**point) for point in values["table"]),
            rule=ExitRule.from_dict(values["rule"]) if "rule" in values else PLAIN,
        )
