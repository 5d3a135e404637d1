"""What fails the short suite of ratios."""

from math import nan

import pytest
from regressions import compared

COMMITTED = {"quick": 2.0, "quicker": 4.0}


@pytest.mark.parametrize(
    ("ratios", "status"),
    [
        ({"quick": 1.7, "quicker": 9.0}, 0),
        ({"quick": 1.5, "quicker": 4.0}, 1),
        ({"quick": nan, "quicker": 4.0}, 1),
        ({"quick": 2.0}, 1),
        ({"quick": 2.0, "quicker": 4.0, "new": 1.0}, 1),
    ],
)
def test_a_ratio_that_is_worse_missing_or_new_fails(ratios: dict[str, float], status: int) -> None:
    lines, found = compared(ratios, COMMITTED)
    assert found == status
    assert any("WORSE" in line for line in lines) is bool(status)
