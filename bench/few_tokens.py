"""Products of few tokens: weights in float32 by oneDNN, and in half precision by FBGEMM.

    python bench/few_tokens.py --json bench/results/few_tokens.json

The projections of all layers of a checkpoint one after the other, as a lone request meets them, so
that weights come from where they lie. Both ways in turn; told is the median of the ratios.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from offramp.cli.load.circumstances import circumstances, yardstick
from offramp.model import projection
from offramp.model.checkpoint import load_checkpoint
from offramp.model.config import Activation
from offramp.model.encoder import EncoderLayer
from offramp.model.projection import Float32Projection, OneDnnFloat32Projection

ROOT = Path(__file__).parents[1]
TOKENS = (4, 8, 16, 24, 32, 48, 64, 80, 96, 112, 128)
ROUNDS = 40
Projections = tuple[OneDnnFloat32Projection, ...]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Compare two ways to multiply few tokens.")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "sst2-minilm")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    encoder = load_checkpoint(args.checkpoint).model.encoder
    layers = [layer for layer in encoder.layers if isinstance(layer, EncoderLayer)]
    ways = [
        [tuple(map(kind, (one.qkv, one.attention_out, one.up, one.down))) for one in layers]
        for kind in (OneDnnFloat32Projection, Float32Projection)
    ]
    chosen = {"one thread": projection.FEW_TOKENS, "several": projection.FEW_SHARED_TOKENS}
    projection.FEW_TOKENS = projection.FEW_SHARED_TOKENS = max(TOKENS)
    before = yardstick()
    ratios: dict[int, float] = {}
    for tokens in TOKENS:
        hidden = torch.randn(tokens, encoder.config.hidden_size)
        found = [[_seconds(way, hidden) for way in ways] for _ in range(ROUNDS)]
        ratios[tokens] = statistics.median(ours / other for other, ours in found[ROUNDS // 4 :])
        print(f"{tokens:3} tokens: {ratios[tokens]:.2f} of oneDNN's time")
    record = {
        **circumstances(),
        "yardstick_gflops": [before, yardstick()],
        "threads": args.threads,
        "few_tokens": chosen,
        "ratios": ratios,
    }
    if args.json:
        args.json.write_text(json.dumps(record, indent=1) + "\n")


@torch.inference_mode()
def _seconds(layers: Sequence[Projections], hidden: Tensor) -> float:
    started = time.perf_counter()
    for qkv, out, up, down in layers:
        qkv(hidden)
        down.added(up.activated(out.added(hidden, hidden), Activation.GELU), hidden)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
