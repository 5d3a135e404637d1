"""Serving scores requests as evaluation does, whatever rule the checkpoint has."""

import random
from dataclasses import replace
from pathlib import Path

import fakes
import pytest
import torch
from tiny import tiny_checkpoint

from offramp.model.checkpoint import load_checkpoint
from offramp.model.packing import PackedTokens
from offramp.model.rules import ExitRule, RuleKind, score_exits
from offramp.model.tokenizer import Tokens
from offramp.scheduler.backend import Batch
from offramp.server.backend import TorchBackend


@pytest.mark.parametrize("kind", list(RuleKind))
def test_scores_from_slot_to_slot_are_those_of_one_pass(kind: RuleKind, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint(tmp_path / "tiny"))
    rule = ExitRule(kind, (0.5, 1.0, 2.0), (0.8, 1.0, 1.2))
    checkpoint = checkpoint.with_calibration(replace(checkpoint.calibration, rule=rule))
    draw = random.Random(0)
    tokens = [
        Tokens.of(draw.randrange(4, 20) for _ in range(length)) for length in (3, 9, 3, 5, 12, 9)
    ]
    packed = PackedTokens.of(tokens, torch.device("cpu"))
    with torch.inference_mode():
        logits = torch.stack(checkpoint.model(packed))
    expected = score_exits(rule, logits, checkpoint.calibration.temperatures).scores

    backend = TorchBackend(checkpoint, 8, torch.device("cpu"))
    requests = [fakes.request(tokens=len(row)) for row in tokens]
    for slot, (request, row) in enumerate(zip(requests, tokens, strict=True)):
        request.payload, request.slot = row, slot
    for stage in range(3):
        order = draw.sample(range(6), 6)
        for part in (order[:4], order[4:]):
            batch = Batch(stage, tuple(requests[i] for i in part), 0.0)
            scores = [reading.score for reading in backend.run(batch)]
            assert scores == pytest.approx(expected[stage, part].tolist(), abs=1e-5)


@pytest.mark.parametrize("kind", list(RuleKind))
def test_an_exit_that_nobody_reads_counts_for_those_after_it(
    kind: RuleKind, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint(tmp_path / "tiny"))
    rule = ExitRule(kind, (1.0,) * 3)
    checkpoint = checkpoint.with_calibration(replace(checkpoint.calibration, rule=rule))

    def score(*, early: bool) -> float:
        """At the last exit, with the early ones read or not."""
        backend = TorchBackend(checkpoint, 1, torch.device("cpu"))
        request = fakes.request(tokens=3)
        request.payload, request.slot = Tokens.of((4, 5, 6)), 0
        for stage in range(2):
            said = backend.run(Batch(stage, (request,), 0.0, reads=early))
            assert len(said) == early
        (last,) = backend.run(Batch(2, (request,), 0.0))
        return last.score

    assert score(early=False) == score(early=True)
