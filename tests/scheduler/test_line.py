"""A step takes whoever fits, and does not look for them for ever."""

import pytest
from fakes import request

from offramp.scheduler.line import HARDLY, PASSED, PASSED_SHARE, Line
from offramp.scheduler.request import Request


def line_of(*tokens: int) -> tuple[Line, list[Request]]:
    requests = [request(tokens=number) for number in tokens]
    line = Line()
    line.push(requests)
    return line, requests


@pytest.mark.parametrize(("passed", "found"), [(PASSED - 1, True), (PASSED, False)])
def test_a_short_one_is_found_behind_some_that_do_not_fit(passed: int, *, found: bool) -> None:
    line, requests = line_of(400, *[700] * passed, 100)
    taken = line.take(10, 1000)
    assert taken == [requests[0], *requests[-1:] * found]
    left = [one for one in requests if one not in taken]
    assert line.waiting == len(left)
    assert line.tokens == sum(one.tokens for one in left)
    assert [line.take(1, 1000)[0] for _ in left] == left
    assert line.tokens == line.waiting == line.interactive == 0


def test_the_more_a_step_takes_the_longer_it_looks() -> None:
    taken = PASSED_SHARE * (PASSED + 8)
    line, requests = line_of(*[10] * taken, *[700] * (PASSED + 7), 100)
    assert line.take(10**6, 10 * taken + 500) == [*requests[:taken], requests[-1]]


def test_a_step_as_good_as_full_looks_for_nobody() -> None:
    line, requests = line_of(10 * HARDLY - 10, 20, 5)
    assert line.take(10, 10 * HARDLY) == requests[:1]
    line, requests = line_of(10 * HARDLY - 11, 20, 5)
    assert line.take(10, 10 * HARDLY) == [requests[0], requests[2]]


def test_an_urgent_one_takes_its_part_of_the_room() -> None:
    line, requests = line_of(8, 8, 8, 8)
    assert line.take(10, 16, requests[2]) == [requests[2], requests[0]]
