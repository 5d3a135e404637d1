"""Exit rules against what their papers say, one row at a time in plain Python."""

from dataclasses import replace
from math import isnan, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from offramp.model.calibration import Calibration
from offramp.model.readings import HIGHEST_CONFIDENCE, read
from offramp.model.rules import ExitRule, RuleKind, Streak, score_exits

EXITS, WEIGHTS = 4, (0.5, 1.0, 1.5, 2.0)


def logits(seed: int, rows: int = 9) -> Tensor:
    return torch.randn(EXITS, rows, 3, generator=torch.Generator().manual_seed(seed)) * 3


def by_hand(kind: RuleKind, row: list[list[float]]) -> list[float]:
    """Scores of one row, from its probabilities at every exit."""
    scores: list[float] = []
    labels = [probabilities.index(max(probabilities)) for probabilities in row]
    for at, probabilities in enumerate(row):
        first = at
        while first and labels[first - 1] == labels[at]:
            first -= 1
        streak = range(first, at + 1)
        match kind:
            case RuleKind.MAX_PROB:
                scores.append(max(probabilities))
            case RuleKind.ENTROPY:
                scores.append(1 + sum(p * log(p) for p in probabilities) / log(3))
            case RuleKind.PATIENCE:
                scores.append(len(streak) / (len(streak) + 1))
            case RuleKind.AGREEMENT:
                gained = sum(max(row[exit_]) * WEIGHTS[exit_] for exit_ in streak)
                scores.append(gained / sum(WEIGHTS))
    return scores


@pytest.mark.parametrize("kind", list(RuleKind))
@given(seed=st.integers(0, 10_000))
def test_scores_of_a_batch_are_those_of_its_rows(kind: RuleKind, seed: int) -> None:
    scored = score_exits(ExitRule(kind, WEIGHTS), logits(seed), (1.0,) * EXITS)
    probabilities = logits(seed).softmax(-1)
    for row in range(9):
        expected = by_hand(kind, probabilities[:, row].tolist())
        assert scored.scores[:, row].tolist() == pytest.approx(expected, abs=1e-6)
    assert (scored.scores <= HIGHEST_CONFIDENCE).all()


@pytest.mark.parametrize("kind", list(RuleKind))
def test_a_row_scores_the_same_in_any_company(kind: RuleKind) -> None:
    """Serving scores whatever batch there is, with what was kept of each row."""
    rule = ExitRule(kind, WEIGHTS)
    together = score_exits(rule, logits(1), (1.0,) * EXITS).scores
    for rows in ([8, 2], [5]):
        kept: Streak | None = None
        for index, at_exit in enumerate(logits(1)):
            scores, kept = rule.scores(index, read(at_exit[rows], 1.0), kept)
            assert torch.equal(scores, together[index, rows])


def test_exponents_move_the_threshold_of_an_exit() -> None:
    exponents = (log(0.9) / log(0.7), 1.0, log(0.9) / log(0.99), 1.0)
    plain = score_exits(ExitRule(), logits(2, 500), (1.0,) * EXITS).scores
    bent = score_exits(ExitRule(exponents=exponents), logits(2, 500), (1.0,) * EXITS).scores
    for index, limit in enumerate((0.7, 0.9, 0.99, 0.9)):
        assert torch.equal(bent[index] >= 0.9, plain[index] >= limit)


@pytest.mark.parametrize("kind", list(RuleKind))
def test_powers_decide_at_other_temperatures_than_those_reported(kind: RuleKind) -> None:
    reported, deciding = (0.8, 1.5, 2.0, 1.0), (1.6, 1.0, 1.9, 1.0)
    powers = tuple(of_all / of_part for of_all, of_part in zip(reported, deciding, strict=True))
    at_powers = score_exits(ExitRule(kind, WEIGHTS, powers=powers), logits(3, 500), reported)
    plain = score_exits(ExitRule(kind, WEIGHTS), logits(3, 500), deciding)
    assert torch.allclose(at_powers.scores, plain.scores, atol=1e-6)
    at_reported = score_exits(ExitRule(kind, WEIGHTS), logits(3, 500), reported)
    assert torch.equal(at_powers.confidences, at_reported.confidences)


def test_one_row_scores_by_itself_as_in_a_batch() -> None:
    rule = ExitRule(exponents=(0.5, 1.0, 2.0, 3.0), powers=(0.7, 1.0, 1.3, 2.0))
    scores = score_exits(rule, logits(4), (1.0,) * EXITS).scores
    for index, at_exit in enumerate(logits(4)):
        for row, probabilities in enumerate(at_exit.softmax(-1).tolist()):
            assert rule.score(index, probabilities) == pytest.approx(scores[index, row].item())
    assert rule.score(1, [1.0, 0.0, 0.0]) == HIGHEST_CONFIDENCE


def test_a_great_power_of_many_small_probabilities_is_still_a_score() -> None:
    rule = ExitRule(powers=(400.0,))
    (scores,) = score_exits(rule, torch.zeros(1, 2, 150), (1.0,)).scores
    assert scores.tolist() == pytest.approx([1 / 150] * 2)
    assert rule.score(0, [1 / 150] * 150) == pytest.approx(1 / 150)


def test_rules_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="weight"):
        ExitRule(RuleKind.AGREEMENT)
    with pytest.raises(ValueError, match="positive"):
        ExitRule(exponents=(1.0, 0.0))
    with pytest.raises(ValueError, match="not for 2 exits"):
        Calibration((1.0, 1.0), 1.0, (), ExitRule(exponents=(1.0,)))


def test_a_rule_survives_the_file() -> None:
    rule = ExitRule(RuleKind.AGREEMENT, WEIGHTS, (1.0, 2.0, 0.5, 1.0), (1.0, 0.9, 1.1, 1.0))
    calibration = Calibration((1.0,) * EXITS, 0.9, (), rule)
    assert Calibration.from_dict(calibration.to_dict()) == calibration
    written = calibration.to_dict()
    del written["rule"]["powers"]  # a file from before there were any
    assert Calibration.from_dict(written).rule == replace(rule, powers=())
    del written["rule"]
    assert Calibration.from_dict(written).rule == ExitRule()


@pytest.mark.parametrize("kind", list(RuleKind))
def test_undefined_probabilities_have_an_undefined_score(kind: RuleKind) -> None:
    rule = ExitRule(kind, WEIGHTS, (0.8,) * EXITS)
    said = logits(2)
    said[1:, 4] = float("nan")
    scores = score_exits(rule, said, (1.0,) * EXITS).scores
    assert scores.isnan().nonzero().tolist() == [[1, 4], [2, 4], [3, 4]]
    if kind is RuleKind.MAX_PROB:
        assert isnan(rule.score(1, said[1, 4].tolist()))
