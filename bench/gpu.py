"""Everything to know of one GPU in one go; skips itself where there is none.

    python bench/gpu.py --checkpoint checkpoints/sst2-minilm --json gpu.json

Needs torch 2.11 or newer, transformers, safetensors, tokenizers and our `model`, `scheduler` and
`server/offramp/server/device.py` from this checkout, nothing installed. In this order: the card's
own limits (bfloat16 matrix products, memory copies), equality with the float32 module on the CPU,
stage forwards and host overhead of steps, the latency of one short request inside the engine, and
throughput on mixed lengths against `transformers` with torch.compile, padded and batched.

Shapes are BERT-base and BERT-large with random weights, which leave nowhere early; their requests
leave by shares recorded of trained checkpoints (`EXIT_SHARES`), drawn per request.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("model", "scheduler", "server", "bench")]

import torch  # noqa: E402
from gpu_subjects import (  # noqa: E402
    LENGTHS_LONG,
    LENGTHS_SHORT,
    SHAPES,
    Limits,
    backend_of,
    equality,
    random_checkpoint,
    requests_of,
    rows,
    throughput,
)

from offramp.model.checkpoint import Checkpoint, load_checkpoint  # noqa: E402
from offramp.model.config import ModelConfig  # noqa: E402
from offramp.model.graphs import GraphedSteps  # noqa: E402
from offramp.model.resident import ResidentStages  # noqa: E402
from offramp.model.runner import Precision  # noqa: E402
from offramp.model.tokenizer import Tokens  # noqa: E402
from offramp.scheduler.backend import Batch  # noqa: E402


def timed(run: Callable[[], object], repeats: int = 30) -> float:
    """Median seconds on the device."""
    for _ in range(5):
        run()
    times: list[float] = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def card_limits(device: torch.device) -> dict[str, float]:
    """What the card itself reaches."""
    left, right = torch.randn(2, 8192, 8192, device=device, dtype=torch.bfloat16).unbind()
    source = torch.empty(2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return {
        "bfloat16_tflops": 2 * 8192**3 / timed(lambda: left @ right) / 1e12,
        "copy_gb_per_second": 2 * 2**30 / timed(lambda: target.copy_(source)) / 1e9,
    }


def stages(checkpoint: Checkpoint, device: torch.device, peak: float) -> dict[int, Any]:
    """Device and host time of full steps by tokens, and the share of the card's own rate."""
    config, limits = checkpoint.config, Limits()
    backend = backend_of(checkpoint, device, Precision.BFLOAT16, limits)
    resident = ResidentStages(
        checkpoint.model,
        checkpoint.calibration.temperatures,
        limits.slots,
        limits.rows,
        torch.bfloat16,
        device,
    )
    steps = GraphedSteps(resident, limits.tokens, device)
    steps.capture()
    found: dict[int, Any] = {}
    size, wide = config.encoder.hidden_size, config.encoder.intermediate_size
    for target in (32, 256, 2048, 8192, 16_384):
        tokens = rows(max(1, target // 28), 1, LENGTHS_SHORT)
        while sum(map(len, tokens)) > target:
            tokens.pop()
        requests = requests_of(tokens)
        batch = Batch(1, requests, 0.0)
        count = batch.tokens
        backend.run(Batch(0, requests, 0.0))
        inputs = steps.inputs(count)
        inputs.slots[: len(tokens)] = torch.arange(len(tokens))
        inputs.lengths.zero_()
        inputs.lengths[: len(tokens)] = torch.tensor([len(row) for row in tokens])
        layers = len(config.stage_layers(1))
        linear = 2 * count * (4 * size * size + 2 * size * wide)
        work = layers * (linear + 4 * size * sum(len(row) ** 2 for row in tokens))
        seconds = timed(partial(steps.run, 1, count))
        whole = [_wall(partial(backend.run, batch)) for _ in range(30)]
        found[target] = {
            "tokens": count,
            "rows": len(tokens),
            "stage_ms": seconds * 1e3,
            "share_of_bfloat16_rate": work / seconds / 1e12 / peak,
            "host_overhead_us": (statistics.median(whole) - seconds) * 1e6,
        }
    return found


def _wall(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


ROUNDS = 3
"""Full depth and early exits, in turn; medians count."""

PEER_ROWS = (64, 256, 512)
"""Batches that the padded peer is tried with."""


def padded_peer(config: ModelConfig, device: torch.device, tokens: Sequence[Tokens]) -> float:
    """Rows a second of `transformers` with torch.compile: the best size of batches of like lengths.

    The rows are sorted by length first, so that next to nothing is padded.
    """
    from transformers import BertConfig, BertModel  # noqa: PLC0415

    encoder = config.encoder
    settings = BertConfig(
        hidden_size=encoder.hidden_size,
        num_hidden_layers=encoder.layers,
        num_attention_heads=encoder.heads,
        intermediate_size=encoder.intermediate_size,
    )
    model: Any = BertModel(settings).eval().to(device, torch.bfloat16)  # type: ignore[no-untyped-call]
    compiled: Any = torch.compile(model, dynamic=True)
    return max(_padded(compiled, device, sorted(tokens, key=len), most) for most in PEER_ROWS)


def _padded(compiled: Any, device: torch.device, tokens: Sequence[Tokens], most: int) -> float:  # noqa: ANN401
    batches: list[tuple[torch.Tensor, torch.Tensor]] = []
    for at in range(0, len(tokens), most):
        part = tokens[at : at + most]
        ids = torch.zeros(len(part), max(map(len, part)), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, own in enumerate(part):
            ids[row, : len(own)] = torch.tensor(own.ids)
            mask[row, : len(own)] = 1
        batches.append((ids.to(device), mask.to(device)))
    started = 0.0
    with torch.inference_mode():
        for _ in range(2):
            started = time.perf_counter()
            for ids, mask in batches:
                compiled(input_ids=ids, attention_mask=mask)
            torch.cuda.synchronize()
    return len(tokens) / (time.perf_counter() - started)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description="Measure one GPU; skips itself where there is none."
    )
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "sst2-minilm")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here; nothing is measured")
        return
    device = torch.device("cuda")
    torch.backends.cuda.matmul.allow_tf32 = False
    record: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "limits": card_limits(device),
    }
    peak = record["limits"]["bfloat16_tflops"]
    few = rows(64, 3, LENGTHS_SHORT)
    record["shipped_checkpoint"] = {
        "equality": equality(partial(load_checkpoint, args.checkpoint), device, few)
    }
    mixed = rows(args.requests, 2, LENGTHS_SHORT, LENGTHS_LONG)
    short = rows(args.requests, 4, LENGTHS_SHORT)
    for name in SHAPES:
        own: dict[str, Any] = {}
        record[name] = own
        own["equality"] = equality(partial(random_checkpoint, name), device, few[:16])
        checkpoint = random_checkpoint(name)
        own["stages"] = stages(checkpoint, device, peak)
        limits = Limits()
        backend = backend_of(random_checkpoint(name), device, Precision.BFLOAT16, limits)
        for kind, tokens in (("short", short), ("mixed", mixed)):
            run = partial(throughput, checkpoint, backend, limits)
            asyncio.run(run(tokens[:1000], early=True))  # whatever comes first is cold
            rounds = [
                [asyncio.run(run(tokens, early=early)) for early in (False, True)]
                for _ in range(ROUNDS)
            ]
            full, early = (
                {key: statistics.median(one[key] for one in mode) for key in mode[0]}
                for mode in zip(*rounds, strict=True)
            )
            gain = early["per_second"] / full["per_second"]
            possible = full["mean_layers"] / early["mean_layers"]
            own[kind] = {"full": full, "early": early, "share_of_oracle": gain / possible}
        own["mixed"]["padded_peer_per_second"] = padded_peer(checkpoint.config, device, mixed)
        print(json.dumps({name: own}, indent=1), flush=True)
        torch.cuda.empty_cache()
    print(json.dumps(record, indent=1))
    if args.json:
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
