"""The future that a caller awaits."""

import asyncio
from collections.abc import Callable

from offramp.scheduler.errors import SchedulerError
from offramp.scheduler.request import Answer, Departure, Request


class AnswerFuture(asyncio.Future[Answer]):
    """Will hold a request's answer or its SchedulerError; who cancels it cancels the request."""

    __slots__ = ("forget", "request")

    request: Request | None
    """While it is held."""

    forget: Callable[[Request], None]
    """Cancels it."""

    def cancel(self, msg: object = None) -> bool:
        """Give the request up, wherever it is; False if it has been told how it left."""
        request, self.request = self.request, None
        cancelled = super().cancel(msg)
        if cancelled and request is not None:
            self.forget(request)
            del self.forget
        return cancelled

    def settle(self, departure: Departure) -> None:
        """Hear how the request left."""
        if self.done():
            return
        self.request = None
        del self.forget  # whoever keeps an answer keeps no engine
        outcome = departure.outcome
        if isinstance(outcome, SchedulerError):
            self.set_exception(outcome)
        else:
            self.set_result(outcome)
