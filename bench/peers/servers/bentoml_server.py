"""BentoML around the same forward, with its adaptive batching; `bentoml serve` runs it."""

import bentoml
from forward import FullDepth


@bentoml.service(workers=1, traffic={"timeout": 120, "max_concurrency": 4096})
class Peer:
    """Texts in, labels out."""

    def __init__(self) -> None:
        self.model = FullDepth()

    @bentoml.api(batchable=True, max_batch_size=8, max_latency_ms=60_000)
    def classify(self, texts: list[str]) -> list[str]:
        """Labels of a batch."""
        return self.model.labels(texts)
