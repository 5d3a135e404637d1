"""Exit rules: from what the exits have said so far to one score, compared with one threshold.

A rule is a checkpoint's, a threshold is a request's. The scheduler knows no rule: it compares a
number with a threshold, and this module is where that number is made, in evaluation and in serving
alike; on a GPU a kernel makes that of `max_prob` and is tried beside this (`trial.py`). A score
lies in 0 to 1 and stays below 1, so a threshold of 1 is full depth. The score of undefined
probabilities is undefined.

- `max_prob`: the confidence, at the temperature it decides at (Schwartz et al., ACL 2020).
- `entropy`: one minus the entropy over its highest value (Xin et al., DeeBERT, ACL 2020).
- `patience`: k / (k + 1) after k exits in a row that gave this label (Zhou et al., PABEE, NeurIPS
  2020); a threshold of 0.75 is a patience of 3.
- `agreement`: their confidences weighted by the exits' accuracies, summed over the exits in a row
  that gave this label, over the highest sum (Bajpai and Hanawal, BEEM, ICLR 2025).

Per-exit thresholds are a rule's too. Its *exponents* bend the scores of each exit, `s ** e`, so
that one threshold t stands for the threshold `t ** (1 / e)` there: a request still gives one
number, and the table and its promises hold for it unchanged.

Its *powers* let a rule decide at other temperatures than those of the reported probabilities: it
looks at `p ** k`, normalised again. A promise needs decisions that were fixed before the rows it is
tested on were seen; a reported probability may learn from all rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from math import log
from typing import Any, Self

import torch
from torch import Tensor

from offramp.model.readings import HIGHEST_CONFIDENCE, Readings, read


class RuleKind(StrEnum):
    """How readings become a score."""

    MAX_PROB = "max_prob"
    ENTROPY = "entropy"
    PATIENCE = "patience"
    AGREEMENT = "agreement"


@dataclass(frozen=True, slots=True)
class Streak:
    """What a rule remembers of rows between exits.

    `labels` is int64 `[rows]`, the last exit's; `weights` float64 `[rows]`, what the exits in a
    row that gave this label have gathered.
    """

    labels: Tensor
    weights: Tensor


@dataclass(frozen=True, slots=True)
class ExitRule:
    """A rule; `weights` are what the exits' answers count in `agreement`, which needs them.

    All tuples hold one positive number an exit. No exponents: the exits' thresholds are equal. No
    powers: it decides on the probabilities that are reported.
    """

    kind: RuleKind = RuleKind.MAX_PROB
    weights: tuple[float, ...] = ()
    exponents: tuple[float, ...] = ()
    powers: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind is RuleKind.AGREEMENT and not self.weights:
            raise ValueError("the agreement rule needs one weight an exit")
        if any(not value > 0 for value in (*self.weights, *self.exponents, *self.powers)):
            raise ValueError("the weights, exponents and powers of a rule must be positive")

    def fits(self, exits: int) -> bool:
        """Whether it is for a model with this many exits."""
        return {len(self.weights), len(self.exponents), len(self.powers)} <= {0, exits}

    @property
    def remembers(self) -> bool:
        """Whether a score depends on the exits before; only then is a streak needed."""
        return self.kind in (RuleKind.PATIENCE, RuleKind.AGREEMENT)

    def scores(
        self, exit_index: int, readings: Readings, before: Streak | None
    ) -> tuple[Tensor, Streak | None]:
        """Scores of rows at an exit, float64 `[rows]`, and what to remember for the next one.

        `before` is what the exit before gave for the same rows; None at exit 0.
        """
        streak: Streak | None = None
        if self.powers:
            readings = _raised(readings, self.powers[exit_index])
        match self.kind:
            case RuleKind.MAX_PROB:
                raw = readings.confidences
            case RuleKind.ENTROPY:
                spread = torch.special.entr(readings.probabilities.double()).sum(-1)
                raw = 1 - spread / log(readings.probabilities.shape[-1])
            case RuleKind.PATIENCE:
                # One of each, but nothing where the confidence is undefined.
                counted = readings.confidences / readings.confidences
                streak = _longer(readings.labels, counted, before)
                raw = streak.weights / (streak.weights + 1)
            case RuleKind.AGREEMENT:
                gained = readings.confidences * self.weights[exit_index]
                streak = _longer(readings.labels, gained, before)
                raw = streak.weights / sum(self.weights)
        if self.exponents:
            raw = raw.clamp(min=0.0) ** self.exponents[exit_index]
        return raw.clamp(max=HIGHEST_CONFIDENCE), streak

    def score(self, exit_index: int, probabilities: Sequence[float]) -> float:
        """The score of one row by `max_prob`, of its probabilities: of `scores`, to rounding."""
        raw = max(probabilities)
        if self.powers:
            power, highest = self.powers[exit_index], raw
            raw = 1 / sum([(probability / highest) ** power for probability in probabilities])
        raw = min(raw, HIGHEST_CONFIDENCE)
        if self.exponents:
            raw = min(raw ** self.exponents[exit_index], HIGHEST_CONFIDENCE)
        return raw

    def to_dict(self) -> dict[str, Any]:
        """The JSON form that `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the JSON form; raises ValueError, KeyError or TypeError where it is not one."""
        names = {field.name for field in fields(cls)}
        if unknown := sorted(values.keys() - names):
            raise ValueError(f"unknown keys {unknown} of the rule; known are {sorted(names)}")
        return cls(
            RuleKind(values["kind"]),
            tuple(float(value) for value in values["weights"]),
            tuple(float(value) for value in values["exponents"]),
            tuple(float(value) for value in values.get("powers", ())),
        )


PLAIN = ExitRule()
"""The paper's rule, the same threshold at every exit."""


@dataclass(frozen=True, slots=True)
class ExitScores:
    """What all exits say of rows that run to full depth; every tensor is `[exits, rows]`.

    `scores` and `confidences` are float64, `labels` int64.
    """

    scores: Tensor
    labels: Tensor
    confidences: Tensor


def score_exits(rule: ExitRule, logits: Tensor, temperatures: Sequence[float]) -> ExitScores:
    """Score logits of every exit, `[exits, rows, labels]`, as serving would one exit at a time."""
    streak: Streak | None = None
    scores: list[Tensor] = []
    readings: list[Readings] = []
    for index, (at_exit, temperature) in enumerate(zip(logits, temperatures, strict=True)):
        readings.append(read(at_exit, temperature))
        scored, streak = rule.scores(index, readings[-1], streak)
        scores.append(scored)
    return ExitScores(
        torch.stack(scores),
        torch.stack([reading.labels for reading in readings]),
        torch.stack([reading.confidences for reading in readings]),
    )


def _raised(readings: Readings, power: float) -> Readings:
    """The readings at the temperature that a power of the probabilities stands for."""
    probabilities = readings.probabilities.double()
    raised = (probabilities / probabilities.amax(-1, keepdim=True)) ** power
    probabilities = raised / raised.sum(-1, keepdim=True)
    confidences = probabilities.amax(-1).clamp(max=HIGHEST_CONFIDENCE)
    return Readings(readings.labels, confidences, probabilities.float())


def _longer(labels: Tensor, gained: Tensor, before: Streak | None) -> Streak:
    if before is None:
        return Streak(labels, gained)
    return Streak(labels, gained + torch.where(labels == before.labels, before.weights, 0.0))
