"""Numbers given on the command line, looked at before the work begins."""

from math import inf


def check_above_zero(option: str, value: float | None) -> None:
    """Raise ValueError of a number, if one was given, that is not finite and above 0."""
    if value is not None and not 0 < value < inf:
        raise ValueError(f"{option} must be a number above 0, not {value:g}")


def check_at_least_one(option: str, value: int | None) -> None:
    """Raise ValueError of a count, if one was given, below 1."""
    if value is not None and value < 1:
        raise ValueError(f"{option} must be at least 1, not {value}")
