"""Everything to know of one GPU in one go; skips itself where there is none.

    python bench/gpu.py --texts sst2/test.jsonl.gz --json gpu.json

Needs torch 2.11 or newer, transformers, safetensors, tokenizers, uvloop and our `model`,
`scheduler` and `server/offramp/server/device.py` from this checkout, nothing installed. In this
order: the card's own limits (bfloat16 matrix products, memory copies), equality with the float32
module on the CPU, stage forwards (by our kernels, and by PyTorch's operations alone), what the host
adds to steps, throughput of scheduler and engine at full depth and with early exits in turn, one
request alone, and `transformers` with torch.compile on mixed lengths, padded and batched.

Shapes are BERT-base and BERT-large with random weights, which leave nowhere early; their requests
leave by shares recorded of trained checkpoints (`EXIT_SHARES`), drawn per request.
"""

import argparse
import gzip
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("model", "scheduler", "server", "bench")]

import torch  # noqa: E402
import uvloop  # noqa: E402
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
from offramp.scheduler.cost import CostModel  # noqa: E402
from offramp.server.device import DeviceBackend, stages_of  # noqa: E402
from offramp.server.garbage import settle  # noqa: E402

REPEATS = 50


def timed(run: Callable[[], object]) -> float:
    """Median seconds on the device."""
    for _ in range(5):
        run()
    times: list[float] = []
    for _ in range(REPEATS):
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


def stages(
    checkpoint: Checkpoint, make: type[ResidentStages], device: torch.device, peak: float
) -> dict[int, Any]:
    """Device time of full steps of two layers by tokens, and the share of the card's own rate."""
    config, limits = checkpoint.config, Limits()
    temperatures = checkpoint.calibration.temperatures
    resident = make(checkpoint.model, temperatures, limits.slots, torch.bfloat16, device)
    steps = GraphedSteps(resident, limits.rows, limits.tokens, device)
    steps.capture()
    found: dict[int, Any] = {}
    size, wide = config.encoder.hidden_size, config.encoder.intermediate_size
    for target in STEP_TOKENS:
        tokens = step_of(target)
        lengths = [len(row) for row in tokens]
        count = sum(lengths)
        bucket = steps.bucket(len(tokens), count)
        inputs = steps.inputs(bucket)
        inputs.slots.fill_(limits.slots)
        inputs.lengths.zero_()
        inputs.slots[: len(tokens)] = torch.arange(len(tokens))
        inputs.lengths[: len(tokens)] = torch.tensor(lengths)
        layers = len(config.stage_layers(1))
        linear = 2 * count * (4 * size * size + 2 * size * wide)
        work = layers * (linear + 4 * size * sum(length**2 for length in lengths))
        steps.run(0, bucket)
        seconds = timed(partial(steps.run, 1, bucket))
        found[target] = {
            "tokens": count,
            "rows": len(tokens),
            "stage_ms": seconds * 1e3,
            "share_of_bfloat16_rate": work / seconds / 1e12 / peak,
        }
    return found


def host_overhead(backend: DeviceBackend, stages: dict[int, Any]) -> dict[int, Any]:
    """What the host adds to steps of those sizes, microseconds.

    `overhead` is how much longer a step alone takes than its graph: this is how long the card waits
    with one step in flight. `launch` is the host's own work before the card has the step, and
    `read` after its readings are there; with two steps in flight both happen while the card works.
    """
    found: dict[int, Any] = {}
    for target in stages:
        requests = requests_of(step_of(target))
        backend.run(Batch(0, requests, 0.0))
        batch = Batch(1, requests, 0.0)
        spans: list[tuple[float, ...]] = []
        for _ in range(REPEATS):
            torch.cuda.synchronize()
            begun = time.perf_counter()
            step = backend.launch(batch)
            launched = time.perf_counter()
            while not step.done():
                pass
            done = time.perf_counter()
            step.readings()
            spans.append((begun, launched, done, time.perf_counter()))
        found[target] = {
            "rows": len(requests),
            "overhead_us": _median(spans, 0, 3) * 1e6 - stages[target]["stage_ms"] * 1e3,
            "launch_us": _median(spans, 0, 1) * 1e6,
            "read_us": _median(spans, 2, 3) * 1e6,
        }
    return found


def _median(spans: Sequence[Sequence[float]], start: int, end: int) -> float:
    return statistics.median(span[end] - span[start] for span in spans)


DIFFERENT = 2000
"""Different rows among the requests of a run."""

STEP_TOKENS = (32, 256, 2048, 8192, 16_384)


def step_of(tokens: int) -> list[Tokens]:
    """Short rows of up to so many tokens together."""
    drawn = rows(max(1, tokens // 28), 1, LENGTHS_SHORT)
    while sum(map(len, drawn)) > tokens:
        drawn.pop()
    return drawn


PARTS = ("equality", "stages", "engine", "peer")

ROUNDS = 3
"""Full depth and early exits, in turn; medians count."""

PEER_ROWS = (32, 128, 512)
"""Batches that the padded peer is tried with; the best counts."""


def padded_peer(
    config: ModelConfig, device: torch.device, tokens: Sequence[Tokens]
) -> dict[str, float]:
    """Rows a second of `transformers` with torch.compile, in padded batches.

    `arriving` batches requests as they come, which is what dynamic batching does; `sorted` first
    sorts all of them by length, which no server can, so that next to nothing is padded.
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
    orders = {"arriving": list(tokens), "sorted": sorted(tokens, key=len)}
    return {
        name: max(_padded(compiled, device, order, most) for most in PEER_ROWS)
        for name, order in orders.items()
    }


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
            torch.cuda.synchronize()
            started = time.perf_counter()
            for ids, mask in batches:
                compiled(input_ids=ids, attention_mask=mask)
            torch.cuda.synchronize()
    return len(tokens) / (time.perf_counter() - started)


def engine_rounds(
    checkpoint: Checkpoint, backend: DeviceBackend, tokens: Sequence[Tokens]
) -> dict[str, Any]:
    """Throughput at full depth and with recorded exits, in turn."""
    exits = checkpoint.config.exit_layers
    cost = CostModel(len(exits))
    run = partial(throughput, exits, backend, cost, Limits())
    uvloop.run(run(tokens[: len(tokens) // 2], early=True))  # whatever comes first is cold
    rounds = [
        [uvloop.run(run(tokens, early=early)) for early in (False, True)] for _ in range(ROUNDS)
    ]
    full, early = (
        {key: statistics.median(one[key] for one in mode) for key in mode[0]}
        for mode in zip(*rounds, strict=True)
    )
    gain = early["per_second"] / full["per_second"]
    possible = full["mean_layers"] / early["mean_layers"]
    gains = [early["per_second"] / full["per_second"] for full, early in rounds]
    return {
        "full": full,
        "early": early,
        "share_of_oracle": gain / possible,
        "shares_of_oracle": [gain / possible for gain in gains],
    }


def tokenized(checkpoint: Checkpoint, texts: Path) -> list[Tokens]:
    """The texts of a gzipped JSON Lines file as the server would tokenize them."""
    with gzip.open(texts, "rt", encoding="utf-8") as lines:
        return checkpoint.tokenizer.encode([(json.loads(line)["text"], None) for line in lines])


def of_shape(
    name: str, kinds: dict[str, list[Tokens]], peak: float, args: argparse.Namespace
) -> dict[str, Any]:
    """Whatever parts are asked for, of one shape."""
    device, parts = torch.device("cuda"), args.parts
    checkpoint = random_checkpoint(name)
    found: dict[str, Any] = {}
    if "equality" in parts:
        mixed = rows(16, 3, LENGTHS_SHORT, LENGTHS_LONG)
        found["equality"] = equality(partial(random_checkpoint, name), device, mixed)
    if "stages" in parts:
        found["stages"] = stages(checkpoint, stages_of(checkpoint, device), device, peak)
        by_pytorch = stages(random_checkpoint(name), ResidentStages, device, peak)
        found["stages_by_pytorch"] = by_pytorch
    if "engine" in parts:
        backend = backend_of(random_checkpoint(name), device, Precision.BFLOAT16, Limits())
        if "stages" in found:
            found["host"] = host_overhead(backend, found["stages"])
        for kind, tokens in kinds.items():
            many = list(islice(cycle(tokens), args.requests))
            found[kind] = engine_rounds(checkpoint, backend, many)
    if "peer" in parts:
        peer = padded_peer(checkpoint.config, device, kinds["mixed"])
        found["padded_peer_mixed_per_second"] = peer
        if "mixed" in found:
            early = found["mixed"]["early"]["per_second"]
            found["over_padded_peer"] = {order: early / rate for order, rate in peer.items()}
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description="Measure one GPU; skips itself where there is none."
    )
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "sst2-minilm")
    parser.add_argument("--texts", type=Path, help="a .jsonl.gz to compare labels and exits on")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--requests", type=int, default=60_000)
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
    load = partial(load_checkpoint, args.checkpoint)
    if args.texts and "equality" in args.parts:
        found = equality(load, device, tokenized(load(), args.texts))
        record["shipped_checkpoint"] = {"texts": args.texts.name, "equality": found}
    kinds = {
        "short": rows(DIFFERENT, 4, LENGTHS_SHORT),
        "mixed": rows(DIFFERENT, 2, LENGTHS_SHORT, LENGTHS_LONG),
    }
    settle()
    for name in SHAPES:
        record[name] = of_shape(name, kinds, record["limits"]["bfloat16_tflops"], args)
        print(json.dumps({name: record[name]}, indent=1), flush=True)
        torch.cuda.empty_cache()
    print(json.dumps(record, indent=1))
    if args.json:
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
