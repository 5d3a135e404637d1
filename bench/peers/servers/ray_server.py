"""Ray Serve around the same forward with `@serve.batch`, without waiting for a batch to fill."""

import argparse
import time

import ray
from forward import FullDepth
from ray import serve
from starlette.requests import Request

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--batch", type=int, default=1)


def application(most: int) -> serve.Application:
    """One replica."""

    @serve.deployment(num_replicas=1, max_ongoing_requests=4096)
    class Peer:
        def __init__(self) -> None:
            self.model = FullDepth()

        @serve.batch(max_batch_size=most, batch_wait_timeout_s=0.0)
        async def classify(self, texts: list[str]) -> list[str]:
            return self.model.labels(texts)

        async def __call__(self, request: Request) -> dict[str, str]:
            return {"label": await self.classify((await request.json())["text"])}

    return Peer.bind()


if __name__ == "__main__":
    args = parser.parse_args()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": args.port})
    serve.run(application(args.batch))
    while True:
        time.sleep(60)
