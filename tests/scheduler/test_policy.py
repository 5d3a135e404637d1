"""Which stage the policy prefers, all else being equal."""

import pytest

from offramp.scheduler.policy import Adaptive, Ready


def ready(
    stage: int,
    *,
    rows: int = 8,
    remaining: float = 1.0,
    waiting: int = 8,
    interactive: int = 8,
    oldest: float = 1.0,
) -> Ready:
    """A line whose step takes the same whatever the stage."""
    return Ready(stage, rows, 1.0, 1.0, remaining, waiting, interactive, oldest, oldest)


def chosen(*lines: Ready) -> int:
    return Adaptive().choose(lines, 8)


@pytest.mark.parametrize("oldest", [1.0, 0.0])
def test_the_deeper_of_equals_goes_first_also_if_all_just_came(oldest: float) -> None:
    assert chosen(ready(0, oldest=oldest), ready(1, oldest=oldest)) == 1


def test_interactive_requests_go_before_bulk() -> None:
    assert chosen(ready(0), ready(1, interactive=0)) == 0
    assert chosen(ready(0, interactive=0), ready(1)) == 1


def test_who_waited_longest_goes_before_an_equal() -> None:
    assert chosen(ready(0, oldest=9.0), ready(1)) == 0


def test_the_backlog_is_what_waits_at_any_stage() -> None:
    newcomers, nearly_done = ready(0, rows=10, remaining=3.0), ready(2)
    assert chosen(newcomers, ready(1, rows=1, remaining=2.0), nearly_done) == 2
    assert chosen(newcomers, ready(1, rows=1, remaining=2.0, waiting=900), nearly_done) == 0
