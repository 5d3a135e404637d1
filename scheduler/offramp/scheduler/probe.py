"""Deadlines that prediction alone would refuse, tried now and then: else it might never learn.

Only steps teach what a step costs, and a refusal runs none. So where all deadlines are short one
slow step, of a machine that stood still for a moment, would refuse them for ever.
"""

from collections.abc import Sequence
from math import inf

from offramp.scheduler.request import Request

STALE = 1.0
"""Seconds of refusals without a step between them after which one is tried."""


class Probe:
    """The request that is tried. As long as such requests are in time the next is tried too."""

    def __init__(self) -> None:
        self._request: Request | None = None
        self._in_time = False
        self._refused = -inf

    def begin(self, request: Request, now: float, stepped: float) -> bool:
        """Whether to try a request where nothing is held and the last step ended at `stepped`."""
        if self._refused <= stepped:
            self._refused = now
        if now - self._refused < STALE and not self._in_time:
            return False
        self._request, self._in_time = request, False
        return True

    def tries(self, request: Request) -> bool:
        """Whether this request runs whatever is predicted."""
        return request is self._request

    def ran(self, requests: Sequence[Request], now: float) -> None:
        """Hear that requests have been through a stage."""
        request = self._request
        if request is not None and request in requests:
            self._request, self._in_time = None, now <= request.terms.deadline
