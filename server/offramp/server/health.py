"""The standard health service. grpc-health's own holds a lock while it tells a watcher.

One who watches and reads nothing would so keep every other from hearing of a change, and a server
from draining.
"""

import asyncio

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer

from offramp.server.handlers import Context
from offramp.server.statuses import LONGEST_NAME, short


class Health(HealthServicer):  # type: ignore[misc]
    """What is served and what is not, told to whoever asks and to whoever watches."""

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {}
        self._changed = asyncio.Event()

    def serves(self, *services: str) -> None:
        """These are served from now on."""
        self._change(dict.fromkeys(services, True))

    def drain(self) -> None:
        """Nothing is served any more."""
        self._change(dict.fromkeys(self._serving, False))

    async def Check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:  # noqa: N802
        """Whether a service is served; the server as a whole is the one without a name."""
        if request.service not in self._serving:
            name = short(request.service, LONGEST_NAME)
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {name!r} here")
        return self._response(request.service)

    async def List(self, request: object, context: Context) -> object:  # noqa: N802
        """All services and whether they are served."""
        del request, context
        statuses = {name: self._response(name) for name in self._serving}
        # Its types do not know this message yet.
        return health_pb2.HealthListResponse(statuses=statuses)  # pyright: ignore[reportAttributeAccessIssue]

    async def Watch(self, request: HealthCheckRequest, context: Context) -> None:  # noqa: N802
        """The same now and whenever it changes; who is slow to read hears of the last alone."""
        told: HealthCheckResponse | None = None
        while True:
            changed = self._changed
            response = self._response(request.service)
            if response != told:
                await context.write(response)
                told = response
            await changed.wait()

    def _response(self, service: str) -> HealthCheckResponse:
        serving = self._serving.get(service)
        if serving is None:
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        known = HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
        return HealthCheckResponse(status=known)

    def _change(self, serving: dict[str, bool]) -> None:
        self._serving.update(serving)
        self._changed.set()
        self._changed = asyncio.Event()
