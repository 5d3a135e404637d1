"""The port that Prometheus scrapes, against whoever connects and says nothing."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from wsgiref.simple_server import WSGIServer

SILENCE = 10.0
"""Seconds after which a connection that says nothing is closed, and its thread ends."""

PAUSE = 0.1
"""Seconds until the next try where no connection can be taken, for there is no descriptor left."""


def harden(server: WSGIServer) -> Callable[[], None]:
    """Let no connection stay that says nothing; what is returned closes the server."""
    hardened: Any = server
    handler: Any = server.RequestHandlerClass

    class Handler(handler):  # type: ignore[misc]
        timeout = SILENCE

        def handle(self) -> None:
            with suppress(TimeoutError, ConnectionError):
                super().handle()

    accept = server.get_request

    def get_request() -> Any:  # noqa: ANN401 - as socketserver's
        try:
            return accept()
        except OSError:
            time.sleep(PAUSE)  # it would be asked again at once
            raise

    hardened.RequestHandlerClass, hardened.get_request = Handler, get_request

    def close() -> None:
        server.shutdown()
        server.server_close()

    return close
