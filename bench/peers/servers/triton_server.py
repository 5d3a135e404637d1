"""Triton through nvidia-pytriton around the same forward, with its dynamic batcher."""

from collections.abc import Callable

import numpy as np
from forward import FullDepth
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from settings import read_settings

if __name__ == "__main__":
    told = read_settings()

    def worker() -> Callable[..., object]:
        """Classifies with a model of its own."""
        model = FullDepth(told.model, told.threads, spins=told.spins)

        @batch
        def classify(text: np.ndarray) -> dict[str, np.ndarray]:
            labels = model.labels([row[0].decode() for row in text])
            return {"label": np.array([[label.encode()] for label in labels])}

        return classify

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=told.port,
        grpc_port=told.port + 1,
        metrics_port=told.port + 2,
        grpc_address="127.0.0.1",
        metrics_address="127.0.0.1",
    )
    batcher = DynamicBatcher(max_queue_delay_microseconds=round(told.wait * 1e6))
    with Triton(config=config) as triton:
        triton.bind(
            model_name="peer",
            infer_func=[worker() for _ in range(told.workers)],
            inputs=[Tensor(name="text", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="label", dtype=bytes, shape=(1,))],
            config=ModelConfig(max_batch_size=told.batch, batcher=batcher),
        )
        triton.serve()
