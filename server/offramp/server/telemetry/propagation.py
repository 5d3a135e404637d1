"""The trace of a caller, told by its call's metadata in the formats of `OTEL_PROPAGATORS`."""

from collections.abc import Callable, Mapping

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter

Extract = Callable[[Mapping[str, str]], Context]


class LowerKeys(Getter[Mapping[str, str]]):
    """Reads keys that gRPC has in lower case, whatever a format writes."""

    def get(self, carrier: Mapping[str, str], key: str) -> list[str] | None:
        """The value of a key, if there is one."""
        value = carrier.get(key.lower())
        return None if value is None else [value]

    def keys(self, carrier: Mapping[str, str]) -> list[str]:
        """All keys."""
        return list(carrier)


def extractor() -> Extract:
    """What reads a caller's trace; raises ValueError of a format that is not installed."""
    try:  # the variable is read when this is first imported
        from opentelemetry.propagate import extract  # noqa: PLC0415
    except ValueError as error:
        raise ValueError(
            f"OTEL_PROPAGATORS: {error} Other formats than tracecontext and baggage have packages"
            " of their own, such as opentelemetry-propagator-b3"
        ) from error
    getter = LowerKeys()
    return lambda carrier: extract(carrier, getter=getter)
