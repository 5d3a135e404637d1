"""infinity around the same forward: its web server, queue and batcher, with a model of ours.

Its own classifiers load from transformers; one of its base class lets all peers run one graph.
"""

import sys
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import uvicorn
from forward import FullDepth
from infinity_emb.args import EngineArgs
from infinity_emb.infinity_server import create_server
from infinity_emb.transformer.abstract import BaseClassifer
from settings import read_settings

TOLD = read_settings()


class Classify(BaseClassifer):
    """Texts in, labels out, in infinity's three steps."""

    def __init__(self, *, engine_args: EngineArgs) -> None:
        self.engine_args = engine_args
        self.model = FullDepth(TOLD.model, TOLD.threads, spins=TOLD.spins)

    def encode_pre(self, sentences: list[str]) -> dict[str, np.ndarray]:
        """Tokenize."""
        return self.model.tokenize(sentences)

    def encode_core(self, features: dict[str, np.ndarray]) -> np.ndarray:
        """Run the model."""
        return self.model.logits(features)

    def encode_post(self, embedding: np.ndarray) -> list[list[dict[str, object]]]:
        """The best label of each."""
        return [[{"label": label, "score": 1.0}] for label in self.model.named(embedding)]

    def tokenize_lengths(self, sentences: Sequence[str]) -> list[int]:
        """Lengths in characters: batches are sorted by them, and they cost nothing."""
        return [len(sentence) for sentence in sentences]


if __name__ == "__main__":
    selection = sys.modules["infinity_emb.inference.select_model"]  # a function hides the module
    selection.get_engine_type_from_config = lambda _: SimpleNamespace(value=Classify)
    args = EngineArgs(
        model_name_or_path=str(TOLD.model),
        batch_size=TOLD.batch,
        engine="optimum",
        device="cpu",
        device_id=list(range(TOLD.workers)),
        served_model_name="peer",
    )
    app = create_server(engine_args_list=[args])
    uvicorn.run(app, host="127.0.0.1", port=TOLD.port, log_level="error", loop="uvloop")
