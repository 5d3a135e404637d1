"""The log lines of this process about events, as standard error would have them in JSON."""

import json
import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from offramp.server.telemetry.logs import JsonFormatter


class Lines(list[dict[str, Any]]):
    """The lines about events, parsed."""

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self if line.get("event") == event]


@contextmanager
def written() -> Generator[Lines]:
    """What is written within."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    log = logging.getLogger("offramp")
    log.addHandler(handler)
    before = log.level
    log.setLevel(logging.INFO)
    found = Lines()
    handler.emit = lambda record: found.append(json.loads(handler.format(record)))  # type: ignore[method-assign]
    yield found
    log.removeHandler(handler)
    log.setLevel(before)
