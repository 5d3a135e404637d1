"""Which requests the shadow runs on to full depth, and what it says of them."""

import random
from dataclasses import replace
from pathlib import Path

import fakes
import pytest
from loglines import written
from tiny import tiny_checkpoint

from offramp.model.calibration import TradeOff
from offramp.model.checkpoint import load_checkpoint
from offramp.scheduler.reading import Reading
from offramp.scheduler.request import Answer, Departure, ExitReason
from offramp.server.telemetry.agreement import Agreement
from offramp.server.telemetry.notes import Notes
from offramp.server.telemetry.shadow import WAITING, Run, Shadow

ASKED, SAFER, DEFAULT = 0.8, 0.92, 0.95
POINTS = (
    TradeOff(ASKED, 0.9, 0.01, 0.97, 1.5, 2.0, disagreement_bound=0.05),
    TradeOff(SAFER, 0.92, 0.0, 1.0, 2.0, 1.5, disagreement_bound=0.01),
    TradeOff(1.0, 0.92, 0.0, 1.0, 3.0, 1.0, disagreement_bound=0.0),
)
WINDOW = 16


def shadow(directory: Path, *, guarding: bool = True) -> Shadow:
    """One that draws every request; of three exits."""
    checkpoint = load_checkpoint(tiny_checkpoint(directory / "words"))
    calibration = replace(checkpoint.calibration, default_threshold=DEFAULT)
    return Shadow(
        checkpoint.with_calibration(calibration),
        Agreement(POINTS, WINDOW),
        1.0,
        random.Random(0),
        first_slot=0,
        max_batch_rows=4,
        max_batch_tokens=64,
        guarding=guarding,
    )


def left(
    reason: ExitReason, *, threshold: float = ASKED, min_exit: int = 0, max_exit: int = 2
) -> Departure:
    """A request that asked for `ASKED` and was answered."""
    request = fakes.request(threshold=threshold, min_exit=min_exit, max_exit=max_exit)
    request.context = Notes(ASKED)
    exit_index = 2 if reason is ExitReason.FINAL else 0
    reading = Reading(1, 0.9, (0.1, 0.9))
    return Departure(request, Answer(reading, exit_index, reason, 0.0, 0.0, 0.0, threshold))


def outcome(shadow: Shadow) -> tuple[int, int]:
    """Requests that wait to be run to full depth, and requests that are known."""
    return shadow.lane.scheduler.queued, shadow.agreement.added


def test_who_left_by_the_threshold_is_run_to_full_depth(tmp_path: Path) -> None:
    drawing = shadow(tmp_path)
    drawing.departed(left(ExitReason.CONFIDENT))
    assert outcome(drawing) == (1, 0)


@pytest.mark.parametrize(
    "departure",
    [
        pytest.param(left(ExitReason.CONFIDENT, min_exit=1), id="no first exit"),
        pytest.param(left(ExitReason.CONFIDENT, max_exit=1), id="no last exit"),
        pytest.param(left(ExitReason.DEADLINE), id="deadline"),
        pytest.param(left(ExitReason.OVERLOAD), id="overload"),
        pytest.param(left(ExitReason.LIMIT), id="limit"),
    ],
)
def test_who_left_for_another_reason_tells_nothing_of_the_threshold(
    departure: Departure, tmp_path: Path
) -> None:
    drawing = shadow(tmp_path)
    drawing.departed(departure)
    assert outcome(drawing) == (0, 0)


def test_no_more_wait_than_there_is_room_for(tmp_path: Path) -> None:
    drawing = shadow(tmp_path)
    for _ in range(WAITING + 1):
        drawing.departed(left(ExitReason.CONFIDENT))
    assert outcome(drawing) == (WAITING, 0)


def test_who_went_to_full_depth_agrees_unless_the_guard_sent_it_there(tmp_path: Path) -> None:
    drawing = shadow(tmp_path)
    drawing.departed(left(ExitReason.FINAL))
    assert outcome(drawing) == (0, 1)
    drawing.departed(left(ExitReason.FINAL, threshold=1.0))
    assert outcome(drawing) == (1, 1)


@pytest.mark.parametrize("guarding", [True, False])
def test_the_guard_is_told_as_the_default_that_it_makes(tmp_path: Path, *, guarding: bool) -> None:
    drawing = shadow(tmp_path, guarding=guarding)
    wrong = [Reading(0, 0.9, ()), Reading(1, 0.95, ()), Reading(1, 0.9, ())]
    answer = Answer(wrong[0], 0, ExitReason.CONFIDENT, 0.0, 0.0, 0.0, ASKED)
    with written() as lines:
        for _ in range(WINDOW):
            drawing.compare(Run(ASKED, answer, wrong))
    assert drawing.agreement.drift
    assert drawing.guard == (SAFER if guarding else 0.0)
    told = [line["threshold"] for line in lines.of("offramp.guard")]
    assert told == [DEFAULT] * guarding
