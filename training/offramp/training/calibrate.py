"""Calibration: temperatures and exit rule from one part of the data, promises from the other.

Whatever is fitted (temperatures, the weights and thresholds of a rule) sees the *fitting part*
alone. On the rest, which nothing was fitted on, every threshold of a fixed list is measured
and bounded: its disagreement with full depth by the exact binomial bound of the rows answered
otherwise, its accuracy drop by that of the rows that full depth gets right and it gets wrong.
The drop is these less the rows it corrects, so what bounds them bounds it, rows being paired.

The bounds become promises by fixed-sequence testing: see `Calibration.threshold_within`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from offramp.model.calibration import Calibration, TradeOff
from offramp.model.checkpoint import Checkpoint
from offramp.model.rules import RuleKind, score_exits
from offramp.training.batches import tokenize
from offramp.training.bounds import most_events, upper_bounds
from offramp.training.data import Dataset, Example
from offramp.training.evaluate import exit_logits
from offramp.training.sweep import Sweep, thresholds_of
from offramp.training.temperature import Reliability, fit_temperature
from offramp.training.tuning import ANCHOR, Aim, fit_rule

LEAST_ROWS = 20
ACCURACY_DROP = 0.01
"""What a default threshold promises to lose at most, unless told otherwise."""

LOST_SHARE = 2 / 3
"""Of answers that differ from full depth's those that were right there, roughly: .64 on SST-2."""


@dataclass(frozen=True, slots=True)
class CalibrationConfig:
    """How to calibrate.

    `fit_share` of the rows, drawn by `seed`, fit the rule and the temperatures it decides at; those
    of the reported probabilities are fitted on all rows and decide nothing. The default
    threshold is the lowest that promises to lose at most `accuracy_drop` (0.01, one point, where
    neither it nor a budget is given). With a `budget` (mean layers) the exits' thresholds are tuned
    to it, and with it alone the default is the one that stands for them.
    """

    rule: RuleKind = RuleKind.MAX_PROB
    budget: float | None = None
    accuracy_drop: float | None = None
    fit_share: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.fit_share < 1:
            raise ValueError(f"the fitting share must be between 0 and 1, not {self.fit_share}")
        if not -(2**63) <= self.seed < 2**63:
            raise ValueError(f"the seed must fit 64 bits, not {self.seed}")
        if self.accuracy_drop is not None and not 0 <= self.accuracy_drop <= 1:
            raise ValueError(f"the accuracy drop must be in 0 to 1, not {self.accuracy_drop}")

    @property
    def promised_drop(self) -> float | None:
        """What the default threshold promises to lose at most, if it is chosen by a promise."""
        if self.accuracy_drop is None and self.budget is None:
            return ACCURACY_DROP
        return self.accuracy_drop

    def aim(self, tested_rows: int, *, unlabelled: bool) -> Aim | None:
        """What the exits' thresholds are tuned for, if at all: a budget, or the promised drop.

        The drop only on unlabelled text: a disagreement so rare needs more rows than the labelled.
        It is what the default threshold will have: as many right answers lost as `tested_rows` may
        show for the promise to pass. One of 1 % takes a disagreement of 0.5 % on 654 rows.
        """
        if self.budget is not None:
            return Aim(budget=self.budget)
        if unlabelled and self.promised_drop is not None:
            lost = max(0, most_events(self.promised_drop, tested_rows)) / tested_rows
            return Aim(disagreement=min(1.0, lost / LOST_SHARE))
        return None


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """A calibration, and the reliability of each exit on rows not fitted on, before and after.

    `repeats` are the examples that are there already, text and label.

    `after` is at the temperatures that exits are decided at, not at the calibration's own: only
    those never saw these rows.
    """

    calibration: Calibration
    fitted_rows: int
    tested_rows: int
    before: tuple[Reliability, ...]
    after: tuple[Reliability, ...]
    repeats: int = 0


def calibrate(
    checkpoint: Checkpoint,
    dataset: Dataset,
    config: CalibrationConfig,
    unlabelled: Sequence[Example] = (),
) -> CalibrationReport:
    """Run the data to full depth once and calibrate on what the exits say of it.

    With `unlabelled` texts the exits get thresholds of their own, tuned on these; but not on those
    that the data has too, or promises would be tested on what was tuned on. Raises ValueError if
    none is left, and what `calibrate_logits` does.
    """
    _check(config, len(dataset.examples), checkpoint.config.exit_layers)
    rows = tokenize(dataset.examples, checkpoint.tokenizer)
    labels = torch.tensor([row.label for row in rows])
    device = next(checkpoint.model.parameters()).device
    logits = exit_logits(checkpoint.model, rows, device)
    others = tokenize(_not_among(dataset.examples, unlabelled), checkpoint.tokenizer)
    tuned_on = exit_logits(checkpoint.model, others, device) if others else None
    report = calibrate_logits(logits, labels, checkpoint.config.exit_layers, config, tuned_on)
    different = {(example.pair, example.label) for example in dataset.examples}
    return replace(report, repeats=len(rows) - len(different))


def _check(config: CalibrationConfig, rows: int, exit_layers: Sequence[int]) -> None:
    """Raise ValueError of what no reading of the rows could change."""
    if rows < LEAST_ROWS:
        raise ValueError(f"calibration needs {LEAST_ROWS} examples or more, not {rows}")
    first, last = exit_layers[0], exit_layers[-1]
    if config.budget is not None and not first <= config.budget <= last:
        raise ValueError(
            f"a budget of {config.budget:g} mean layers can't be kept: the first exit is after"
            f" layer {first}, the last after layer {last}"
        )


def _not_among(labelled: Sequence[Example], unlabelled: Sequence[Example]) -> list[Example]:
    known = {example.pair for example in labelled}
    others = [example for example in unlabelled if example.pair not in known]
    if unlabelled and not others:
        raise ValueError(
            f"all {len(unlabelled)} unlabelled texts are among the labelled ones, which test the"
            " promises; give others, or none"
        )
    return others


def calibrate_logits(
    logits: Tensor,
    labels: Tensor,
    exit_layers: Sequence[int],
    config: CalibrationConfig,
    unlabelled: Tensor | None = None,
) -> CalibrationReport:
    """Calibrate on logits `[exits, rows, labels]` of rows with int64 labels `[rows]`.

    `unlabelled` are logits of other rows, to tune the exits' thresholds on. Raises ValueError
    where the rows are too few or the budget can't be kept.
    """
    rows = len(labels)
    _check(config, rows, exit_layers)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(config.seed))
    cut = min(max(1, round(rows * config.fit_share)), rows - 1)
    fitted, tested = order[:cut], order[cut:]
    deciding = tuple(fit_temperature(at[fitted], labels[fitted]) for at in logits)
    rule = fit_rule(
        config.rule,
        logits[:, fitted],
        labels[fitted],
        deciding,
        exit_layers,
        config.aim(len(tested), unlabelled=unlabelled is not None),
        unlabelled,
    )
    reported = tuple(fit_temperature(at, labels) for at in logits)
    powers = tuple(of_all / of_part for of_all, of_part in zip(reported, deciding, strict=True))
    rule = replace(rule, powers=powers)
    scored = score_exits(rule, logits[:, tested], reported)
    sweep = Sweep.of(scored, labels[tested], exit_layers, thresholds_of(rule, logits.shape[-1]))
    calibration = Calibration(reported, ANCHOR, _promised(sweep), rule)
    if config.promised_drop is not None:
        default = calibration.threshold_within(config.promised_drop)
        calibration = replace(calibration, default_threshold=default)
    return CalibrationReport(
        calibration=calibration,
        fitted_rows=len(fitted),
        tested_rows=len(tested),
        before=tuple(Reliability.of(at[tested], labels[tested], 1.0) for at in logits),
        after=tuple(
            Reliability.of(at[tested], labels[tested], temperature)
            for at, temperature in zip(logits, deciding, strict=True)
        ),
    )


def _promised(sweep: Sweep) -> tuple[TradeOff, ...]:
    """The table of a sweep with its bounds; full depth differs from itself nowhere, untested."""
    rows = len(sweep.full_right)
    drops = upper_bounds(sweep.losses.sum(-1), rows).tolist()
    disagreements = upper_bounds((~sweep.agrees).sum(-1), rows).tolist()
    return tuple(
        replace(point, accuracy_drop_bound=drop, disagreement_bound=disagreement)
        if point.threshold < 1
        else replace(point, accuracy_drop_bound=0.0, disagreement_bound=0.0)
        for point, drop, disagreement in zip(sweep.points(), drops, disagreements, strict=True)
    )
