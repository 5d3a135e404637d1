"""BentoML around the same forward, with its adaptive batching; `bentoml serve` runs it."""

import bentoml
from forward import FullDepth
from settings import read_settings

TOLD = read_settings()
PATIENCE_MS = 60_000
"""Requests that it expects to take longer are refused; as long as a caller waits here."""


@bentoml.service(workers=TOLD.workers, traffic={"timeout": 120, "max_concurrency": 4096})
class Peer:
    """Texts in, labels out."""

    def __init__(self) -> None:
        self.model = FullDepth(TOLD.model, TOLD.threads, spins=TOLD.spins)

    @bentoml.api(
        batchable=TOLD.batch > 1, max_batch_size=max(2, TOLD.batch), max_latency_ms=PATIENCE_MS
    )
    def classify(self, texts: list[str]) -> list[str]:
        """Labels of a batch."""
        return self.model.labels(texts)
