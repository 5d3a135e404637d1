"""Triton through nvidia-pytriton around the same forward, with its dynamic batcher."""

import argparse

import numpy as np
from forward import FullDepth
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=8)
    args = parser.parse_args()
    model = FullDepth()

    @batch
    def classify(text: np.ndarray) -> dict[str, np.ndarray]:
        """Labels of a batch."""
        labels = model.labels([row[0].decode() for row in text])
        return {"label": np.array([[label.encode()] for label in labels])}

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=args.port,
        grpc_port=args.port + 1,
        metrics_port=args.port + 2,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="peer",
            infer_func=classify,
            inputs=[Tensor(name="text", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="label", dtype=bytes, shape=(1,))],
            config=ModelConfig(
                max_batch_size=args.batch, batcher=DynamicBatcher(max_queue_delay_microseconds=0)
            ),
        )
        triton.serve()
