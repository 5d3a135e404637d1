"""Calibration on made-up logits: honest probabilities, and promises that are kept."""

from dataclasses import replace
from math import nan

import pytest
import torch
from synthetic import EXIT_LAYERS, logits_and_labels
from torch.nn.functional import cross_entropy

from offramp.model.calibration import Calibration
from offramp.model.rules import ExitRule, RuleKind, score_exits
from offramp.training.bounds import most_events
from offramp.training.calibrate import LOST_SHARE, CalibrationConfig, calibrate_logits
from offramp.training.sweep import Sweep
from offramp.training.temperature import fit_temperature
from offramp.training.tuning import ANCHOR, Aim, outcomes, tune_thresholds


def calibrated(seed: int, rows: int = 600, **options: object) -> Calibration:
    config = replace(CalibrationConfig(seed=seed), **options)  # type: ignore[arg-type]
    logits, labels = logits_and_labels(rows, seed)
    return calibrate_logits(logits, labels, EXIT_LAYERS, config).calibration


def test_a_temperature_is_found_again() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 4, generator=draw) * 2
    labels = torch.multinomial(logits.softmax(-1), 1, generator=draw).squeeze(1)
    assert fit_temperature(logits * 2.5, labels) == pytest.approx(2.5, rel=0.03)


def test_a_temperature_is_a_minimum_with_many_labels() -> None:
    logits = torch.nn.functional.one_hot(torch.arange(32), 72).float()
    labels = torch.arange(32)
    labels[0] = 71
    found = fit_temperature(logits, labels)
    tried = torch.logspace(-2, 2, 401).tolist()
    losses = [cross_entropy(logits / at, labels).item() for at in (found, *tried)]
    assert losses[0] <= min(losses) + 1e-4


def test_a_temperature_follows_the_size_of_the_logits() -> None:
    logits, labels = logits_and_labels(500, 3)
    usual = fit_temperature(logits[0], labels)
    assert fit_temperature(logits[0] / 1000, labels) == pytest.approx(usual / 1000, rel=1e-5)


@pytest.mark.parametrize("hardly_wrong", [0.0, 1e-4])
def test_rows_without_an_error_make_nothing_certain(hardly_wrong: float) -> None:
    margins = torch.linspace(0.5, 4.0, 250)
    logits, labels = torch.stack([margins, -margins], dim=1), torch.zeros(250, dtype=torch.long)
    if hardly_wrong:
        logits[0] = torch.tensor([-hardly_wrong, hardly_wrong])
    confident = (logits / fit_temperature(logits, labels)).softmax(-1).amax(-1)
    assert 0.9 < confident.mean() < 1 - 1 / 500
    logits[:20] = -logits[:20]  # where there are errors these alone count
    found = fit_temperature(logits, labels)
    tried = torch.logspace(-2, 2, 401).tolist()
    losses = [cross_entropy(logits / at, labels).item() for at in (found, *tried)]
    assert losses[0] <= min(losses) + 1e-6


def test_exits_that_make_few_errors_promise_and_leave_early() -> None:
    draw = torch.Generator().manual_seed(21)
    labels = torch.randint(2, (1000,), generator=draw)
    noise = torch.randn(3, 1000, generator=draw)
    margins = torch.tensor([2.6, 2.9, 3.2])[:, None] + noise  # .005 to .0007 wrong
    signs = 1 - 2 * labels
    logits = torch.stack([margins * signs, -margins * signs], dim=-1)
    for seed in range(12):
        config = CalibrationConfig(seed=seed)
        calibration = calibrate_logits(logits, labels, (1, 2, 3), config).calibration
        assert calibration.default_threshold < 1


def test_calibration_makes_probabilities_honest() -> None:
    logits, labels = logits_and_labels(4000, 1)
    report = calibrate_logits(logits, labels, EXIT_LAYERS, CalibrationConfig())
    assert report.fitted_rows == 1000
    assert report.tested_rows == 3000
    for before, after in zip(report.before, report.after, strict=True):
        assert after.ece < 0.03 < before.ece
        assert after.brier < before.brier
        assert sum(bin_.share for bin_ in after.bins) == pytest.approx(1)


@pytest.mark.parametrize(
    ("kind", "budget"), [*((kind, None) for kind in RuleKind), (RuleKind.MAX_PROB, 2.2)]
)
def test_promises_are_broken_in_at_most_one_sample_of_twenty(
    kind: RuleKind, budget: float | None
) -> None:
    """Samples of a population; what a promised threshold really loses there is known."""
    population, truth = logits_and_labels(5_000, 10**6)
    allowed, broken, useful = 0.03, {"drop": 0, "disagreement": 0}, 0
    samples = 25
    draw = torch.Generator().manual_seed(3)
    for seed in range(samples):
        rows = torch.randint(len(truth), (500,), generator=draw)
        config = CalibrationConfig(rule=kind, budget=budget, seed=seed)
        calibration = calibrate_logits(
            population[:, rows], truth[rows], EXIT_LAYERS, config
        ).calibration
        scored = score_exits(calibration.rule, population, calibration.temperatures)
        within = calibration.threshold_within(allowed)
        agreeing = calibration.threshold_agreeing(allowed)
        at_drop, at_agreement = Sweep.of(scored, truth, EXIT_LAYERS, (within, agreeing)).points()
        broken["drop"] += at_drop.accuracy_drop > allowed
        broken["disagreement"] += at_agreement.agreement < 1 - allowed
        useful += within < 1
    assert max(broken.values()) <= 0.05 * samples + 3  # and two standard deviations
    assert useful >= samples / 2


def test_thresholds_of_each_exit_do_no_worse_than_one_for_all_within_the_budget() -> None:
    gained = 0
    for seed in range(4):
        logits, _ = logits_and_labels(1000, seed)
        scored = score_exits(ExitRule(), logits, (2.0,) * 3)
        scores, agrees = scored.scores, scored.labels == scored.labels[-1]
        limits = torch.tensor([tune_thresholds(scores, agrees, EXIT_LAYERS, Aim(budget=2.0))])
        shared = torch.linspace(0.3, 0.999, 300).unsqueeze(1).expand(-1, 3)
        (tuned,), (layers,) = outcomes(scores, agrees, EXIT_LAYERS, limits.double())
        agreements, costs = outcomes(scores, agrees, EXIT_LAYERS, shared.double())
        best = agreements[costs <= 2.0].max()
        assert layers <= 2.0
        assert tuned >= best - 0.002  # the grids differ
        gained += tuned > best
    assert gained >= 2


def test_exits_are_decided_by_a_part_and_probabilities_calibrated_by_all() -> None:
    logits, labels = logits_and_labels(400, 5)
    report = calibrate_logits(logits, labels, EXIT_LAYERS, CalibrationConfig())
    calibration = report.calibration
    assert calibration.temperatures == tuple(fit_temperature(at, labels) for at in logits)
    deciding = [exit_.temperature for exit_ in report.after]
    assert deciding != list(calibration.temperatures)
    decided = score_exits(calibration.rule, logits, calibration.temperatures)
    assert torch.allclose(
        decided.scores, score_exits(ExitRule(), logits, deciding).scores, atol=1e-6
    )


def test_a_budget_holds_on_rows_not_fitted_on() -> None:
    calibration = calibrated(0, rows=2000, budget=2.0)
    at = next(p for p in calibration.table if p.threshold == calibration.default_threshold)
    assert at.mean_layers == pytest.approx(2.0, abs=0.25)


def test_thresholds_tuned_on_unlabelled_text_hold_on_labelled_text() -> None:
    logits, labels = logits_and_labels(600, 0)
    others, _ = logits_and_labels(4000, 1)
    config = CalibrationConfig(budget=2.0)
    with_others = calibrate_logits(logits, labels, EXIT_LAYERS, config, others).calibration
    assert (
        with_others.rule != calibrate_logits(logits, labels, EXIT_LAYERS, config).calibration.rule
    )
    at = next(p for p in with_others.table if p.threshold == with_others.default_threshold)
    assert at.mean_layers == pytest.approx(2.0, abs=0.15)


def test_unlabelled_text_tunes_the_exits_for_what_the_test_of_the_promise_allows() -> None:
    logits, labels = logits_and_labels(600, 0)
    others, _ = logits_and_labels(4000, 1)
    config = CalibrationConfig(accuracy_drop=0.03)
    alone = calibrate_logits(logits, labels, EXIT_LAYERS, config).calibration
    tuned = calibrate_logits(logits, labels, EXIT_LAYERS, config, others).calibration
    assert not alone.rule.exponents
    scored = score_exits(tuned.rule, others, tuned.temperatures)
    (anchor,) = Sweep.of(scored, scored.labels[-1], EXIT_LAYERS, (ANCHOR,)).points()
    allowed = most_events(0.03, 450) / 450 / LOST_SHARE
    assert 0 < allowed < 0.03
    assert anchor.agreement == pytest.approx(1 - allowed, abs=0.005)
    layers = [
        next(p.mean_layers for p in made.table if p.threshold == made.threshold_within(0.03))
        for made in (alone, tuned)
    ]
    assert layers[1] <= layers[0]


def test_where_no_threshold_agrees_enough_the_most_agreeing_is_taken() -> None:
    scores = torch.tensor([[0.99999, 0.5], [0.9, 0.9]], dtype=torch.float64)
    agrees = torch.tensor([[False, True], [True, True]])
    limits = tune_thresholds(scores, agrees, (1, 2), Aim(disagreement=0.0))
    (agreement,), _ = outcomes(scores, agrees, (1, 2), torch.tensor([limits]).double())
    assert agreement == 0.5


@pytest.mark.parametrize("budget", [None, 2.2])
def test_the_default_threshold_is_a_promise(budget: float | None) -> None:
    calibration = calibrated(0, accuracy_drop=0.03, budget=budget)
    above = [p for p in calibration.table if p.threshold >= calibration.default_threshold]
    assert 0.5 < calibration.default_threshold < 1
    assert all(point.accuracy_drop_bound <= 0.03 for point in above)
    assert calibration.threshold_within(0.0) == 1


def test_nothing_is_promised_without_a_test() -> None:
    measured = calibrated(0)
    table = tuple(
        replace(point, accuracy_drop_bound=1.0, disagreement_bound=1.0) for point in measured.table
    )
    silent = replace(measured, table=table)
    assert silent.threshold_within(0.5) == silent.threshold_agreeing(0.5) == 1
    with pytest.raises(LookupError, match="offramp calibrate"):
        Calibration.none(3).threshold_within(0.5)


def test_too_few_rows_and_impossible_settings() -> None:
    with pytest.raises(ValueError, match="20 examples"):
        calibrated(0, rows=10)
    for budget in (50.0, nan):
        with pytest.raises(ValueError, match="the last after layer 4"):
            calibrated(0, budget=budget)
    with pytest.raises(ValueError, match="64 bits"):
        calibrated(2**63)
    with pytest.raises(ValueError, match="first exit"):
        calibrated(0, budget=0.5)
    with pytest.raises(ValueError, match="fitting share"):
        CalibrationConfig(fit_share=1.0)
