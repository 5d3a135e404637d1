"""Sustained overload over the wire: thresholds fall, answers say so, and all is as before after."""

import asyncio
from pathlib import Path

import pytest
from service import PATIENCE, word_service
from tiny import tiny_checkpoint

from offramp.client import ExitReason
from offramp.model.calibration import Calibration, TradeOff
from offramp.model.checkpoint import load_checkpoint
from offramp.server.app import App
from offramp.server.config import Limits, ServerConfig
from offramp.server.overload import relief_of

TABLE = (
    TradeOff(0.5, 0.89, 0.03, 0.93, 1.1, 2.7, 0.06, 0.1),
    TradeOff(0.65, 0.9, 0.01, 0.95, 1.2, 2.5, 0.02, 0.06),
    TradeOff(0.75, 0.92, 0.0, 1.0, 2.0, 1.5, 0.0, 0.01),
    TradeOff(1.0, 0.92, 0.0, 1.0, 3.0, 1.0, 0.0, 0.0),
)
USUAL = Calibration((1.0, 1.0, 1.0), 0.75, TABLE)


async def test_thresholds_fall_are_told_and_return(tmp_path: Path) -> None:
    limits = Limits(max_batch_rows=1, overload_accuracy_drop=0.02, overload_delay=0.15)
    async with word_service(tmp_path, limits) as service:
        service.backend.seconds = 0.002  # a lone call is far from being an overload
        for stage in range(3):
            for _ in range(300):
                service.scheduler.cost.observe(stage, 1, 3, 0.002)
        calls = [service.client.classify("hard") for _ in range(120)]  # .6 .7 .8 at the exits
        under = await asyncio.gather(*calls)
        left = {(answer.reason, answer.exit, answer.threshold) for answer in under}
        usual, lowered = (ExitReason.CONFIDENT, 2, 0.75), (ExitReason.OVERLOAD, 1, 0.65)
        assert lowered in left
        assert left <= {usual, lowered}
        # A threshold that a request names is lowered too, but never raised.
        strict, lax = await asyncio.gather(
            service.client.classify("easy", threshold=0.95),
            service.client.classify("hard", threshold=0.55),
        )
        assert (strict.threshold, strict.reason) in {
            (0.65, ExitReason.OVERLOAD),
            (0.95, ExitReason.FINAL),
        }
        assert (lax.threshold, lax.reason, lax.exit) == (0.55, ExitReason.CONFIDENT, 0)
        async with asyncio.timeout(PATIENCE):
            while (await service.client.classify("hard")).reason is ExitReason.OVERLOAD:
                pass
        assert service.scheduler.relief.level == 0


async def test_without_the_option_no_overload_lowers_anything(tmp_path: Path) -> None:
    limits = Limits(max_batch_rows=1, overload_delay=0.001)
    async with word_service(tmp_path, limits) as service:
        service.backend.seconds = 0.002
        answers = await asyncio.gather(*(service.client.classify("hard") for _ in range(20)))
        assert {answer.reason for answer in answers} == {ExitReason.CONFIDENT}


def test_relief_goes_as_far_as_the_table_promises() -> None:
    relief = relief_of(USUAL, 0.02, 0.5)
    for second in range(10):
        relief.observe(9.0, float(second))
    assert relief.level == 1
    assert not relief_of(USUAL, 0.0, 0.5).active


@pytest.mark.parametrize(
    ("calibration", "says"),
    [
        (Calibration.none(3), "has no trade-off table; run `offramp calibrate`, or leave"),
        (USUAL, "no threshold below the default 0.75 is promised to lose at most 0.01"),
    ],
)
def test_relief_that_could_never_be_is_an_error(calibration: Calibration, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        relief_of(calibration, 0.01, 0.5)


async def test_a_server_that_could_not_be_relieved_does_not_start(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "words")
    assert load_checkpoint(checkpoint).calibration.table
    limits = Limits(overload_accuracy_drop=0.001)
    with pytest.raises(ValueError, match="allow more, or leave overload_accuracy_drop at 0"):
        App(ServerConfig("127.0.0.1:0", (checkpoint,), limits=limits))
    with pytest.raises(ValueError, match="overload_delay must be above 0"):
        Limits(overload_delay=0.0)


async def test_an_exit_that_costs_more_than_it_saves_is_left_out_if_asked(tmp_path: Path) -> None:
    for skip, exits in ((False, {1}), (True, {1, 2})):
        limits = Limits(max_batch_rows=1, skip_costly_exits=skip)
        async with word_service(tmp_path / str(skip), limits) as service:
            for stage in range(2):
                service.scheduler.cost.observe_reading(stage, 60.0)
            answers = [await service.client.classify("hard", threshold=0.65) for _ in range(20)]
            left = {answer.exit for answer in answers}
            assert left <= exits
            assert (2 in left) is skip
            assert {answer.threshold for answer in answers} == {0.65}
