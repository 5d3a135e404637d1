"""Ray Serve around the same forward with `@serve.batch`."""

import time

import ray
from forward import FullDepth
from ray import serve
from settings import Settings, read_settings
from starlette.requests import Request


def application(told: Settings) -> serve.Application:
    """A replica a worker."""

    @serve.deployment(num_replicas=told.workers, max_ongoing_requests=4096)
    class Peer:
        def __init__(self) -> None:
            self.model = FullDepth(told.model, told.threads, spins=told.spins)

        @serve.batch(max_batch_size=told.batch, batch_wait_timeout_s=told.wait)
        async def classify(self, texts: list[str]) -> list[str]:
            return self.model.labels(texts)

        async def __call__(self, request: Request) -> dict[str, str]:
            return {"label": await self.classify((await request.json())["text"])}

    return Peer.bind()


if __name__ == "__main__":
    settings = read_settings()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": settings.port})
    serve.run(application(settings))
    while True:
        time.sleep(60)
