"""Counts inputs that no model can take: the calls of streams that bring them are OK even so."""

from collections.abc import Callable

from offramp.server.statuses import reason_of
from offramp.server.telemetry.registry import Registry


def invalid_inputs(registry: Registry | None) -> Callable[[Exception], None]:
    """Counts the errors that it is given, if anybody wants to know."""
    if registry is None:
        return lambda _: None
    counter = registry.counter("offramp.invalid")
    return lambda error: counter.add(1, reason_of(error))
