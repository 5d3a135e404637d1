"""The GPU benchmark rehearsed where there is no GPU: equality and a whole engine."""

from pathlib import Path

import pytest
import torch
from gpu import main
from gpu_engine import at_full_depth, at_recorded_exits, at_threshold, summary, throughput
from gpu_equality import equality
from gpu_host import TINY, ClockBackend
from gpu_subjects import Limits, backend_of, rows
from tiny import tiny_checkpoint

from offramp.model.checkpoint import Checkpoint, load_checkpoint
from offramp.model.precision import Precision
from offramp.model.tokenizer import Tokens
from offramp.scheduler.cost import CostModel

CPU = torch.device("cpu")
SMALL = Limits(rows=4, tokens=32, slots=8)


def test_too_few_requests_are_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu.py", "--requests", "49153"])
    with pytest.raises(SystemExit):
        main()
    assert "--requests must be 49154 or more" in capsys.readouterr().err


def small_rows() -> list[Tokens]:
    return [Tokens.of(i % 8 for i in row.ids) for row in rows(12, 0, (1, 9))]


def test_every_precision_is_compared(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "tiny")

    def make() -> Checkpoint:
        return load_checkpoint(path)

    found = equality(make, CPU, small_rows())
    assert found["float32"]["labels_of_all_exits_as_module"] == 1
    assert found["float32"]["exits_as_module"] == 1
    assert found["float32"]["largest_probability_difference"] < 1e-5
    assert 0 < found["bfloat16"]["largest_probability_difference"] < 0.1


async def test_a_device_that_is_a_clock_runs_its_steps_one_after_the_other() -> None:
    backend = ClockBackend(SMALL, lambda bucket: bucket / 1e6)
    many = small_rows() * 40
    exits = TINY.exit_layers
    full = await throughput(exits, backend, CostModel(len(exits)), SMALL, at_full_depth(many, 6))
    assert full["mean_layers"] == TINY.encoder.layers
    # A bucket has a row for every 16 tokens, so that a row takes 16 µs at each of six stages.
    assert full["per_second"] < 1 / (6 * 16e-6)


async def test_an_engine_with_recorded_exits(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint(tmp_path / "tiny"))
    backend = backend_of(checkpoint, CPU, Precision.FLOAT32, SMALL)
    exits = checkpoint.config.exit_layers
    cost = CostModel(len(exits))
    many = small_rows() * 40
    full, early, sure = [
        await throughput(exits, backend, cost, SMALL, work)
        for work in (
            at_full_depth(many, len(exits)),
            at_recorded_exits(many, len(exits)),
            at_threshold(many, len(exits), 0.0),
        )
    ]
    assert full["mean_layers"] == checkpoint.config.encoder.layers
    assert 1 <= early["mean_layers"] < full["mean_layers"]
    assert sure["mean_layers"] == exits[0]
    gain = summary([(full, sure)])["share_of_oracle"]
    assert gain * full["mean_layers"] == pytest.approx(sure["per_second"] / full["per_second"])
