"""Everything to know of one GPU in one go; skips itself where there is none.

    python bench/gpu.py --texts sst2/test.jsonl.gz --json gpu.json

Needs torch 2.11 or newer, transformers, safetensors and what these bring, and this checkout,
nothing of it installed; with uvloop the event loop is the server's. The figures are written part
by part. In this order: the card's own limits (bfloat16 matrix products, memory copies), equality
with the float32 module on the CPU, stage forwards (by our kernels, and by PyTorch's operations
alone), what the host adds to steps, throughput of scheduler and engine at full depth and with early
exits in turn, one request alone, the same throughput of several processes that share the card, and
`transformers` with torch.compile on mixed lengths, padded and batched.

Shapes are BERT-base and BERT-large with random weights, which leave nowhere early; their requests
leave by shares recorded of trained checkpoints (`EXIT_SHARES`), drawn per request. The shipped
checkpoint, in float16 as it is served, has real texts and leaves at its default threshold.
"""

import argparse
import gzip
import json
import sys
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("model", "scheduler", "server", "cli", "bench")]

import torch  # noqa: E402
from gpu_engine import (  # noqa: E402
    HELD,
    at_full_depth,
    at_recorded_exits,
    at_threshold,
    engine_rounds,
    new_loop,
    summary,
)
from gpu_equality import equality  # noqa: E402
from gpu_peer import padded_peer  # noqa: E402
from gpu_processes import several  # noqa: E402
from gpu_stages import card_limits, host_overhead, stages  # noqa: E402
from gpu_subjects import (  # noqa: E402
    DIFFERENT,
    LENGTHS_LONG,
    LENGTHS_SHORT,
    SHAPES,
    Limits,
    backend_of,
    random_checkpoint,
    rows,
)

from offramp.cli.load.circumstances import circumstances  # noqa: E402
from offramp.model.checkpoint import Checkpoint, load_checkpoint  # noqa: E402
from offramp.model.device_stages import stages_of  # noqa: E402
from offramp.model.precision import Precision  # noqa: E402
from offramp.model.resident import ResidentStages  # noqa: E402
from offramp.model.tokenizer import Tokens  # noqa: E402
from offramp.server.garbage import settle  # noqa: E402

PARTS = ("equality", "stages", "engine", "peer", "processes")

PROCESSES = (2, 4)
"""Processes that share the card, each on a core of its own."""

LEAST_REQUESTS = 4 * HELD * Limits().slots + 2
"""The cold run has half of them, and holds as many at a time as are not counted."""


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
        found["stages"] = stages(
            checkpoint, stages_of(checkpoint, torch.bfloat16, device), device, peak
        )
        by_pytorch = stages(random_checkpoint(name), ResidentStages, device, peak)
        found["stages_by_pytorch"] = by_pytorch
    if "engine" in parts:
        backend = backend_of(random_checkpoint(name), device, Precision.BFLOAT16, Limits())
        if "stages" in found:
            found["host"] = host_overhead(backend, found["stages"])
        for kind, tokens in kinds.items():
            many = list(islice(cycle(tokens), args.requests))
            exits = checkpoint.config.exit_layers
            full, early = (make(many, len(exits)) for make in (at_full_depth, at_recorded_exits))
            found[kind] = summary(engine_rounds(exits, backend, full, early))
    if "processes" in parts:
        found["processes"] = [several(name, count, args.requests) for count in PROCESSES]
    if "peer" in parts:
        peer = padded_peer(checkpoint.config, device, kinds["mixed"])
        found["padded_peer_mixed_per_second"] = peer
        if "mixed" in found:
            early = found["mixed"]["early"]["per_second"]
            found["over_padded_peer"] = {order: early / rate for order, rate in peer.items()}
    return found


def shipped(peak: float, args: argparse.Namespace) -> dict[str, Any]:
    """Whatever parts are asked for, of the checkpoint and real texts, at its default threshold."""
    load, device = partial(load_checkpoint, args.checkpoint), torch.device("cuda")
    checkpoint = load()
    tokens = tokenized(checkpoint, args.texts)
    found: dict[str, Any] = {"texts": args.texts.name}
    if "equality" in args.parts:
        found["equality"] = equality(load, device, tokens)
    if "stages" in args.parts:
        made = stages_of(checkpoint, torch.float16, device)
        found["kernels"] = made.__name__
        found["stages"] = stages(load(), made, device, peak, torch.float16)
    if "engine" in args.parts:
        backend = backend_of(load(), device, Precision.FLOAT16, Limits())
        if "stages" in found:
            found["host"] = host_overhead(backend, found["stages"])
        many = list(islice(cycle(tokens), args.requests))
        exits, threshold = checkpoint.config.exit_layers, checkpoint.calibration.default_threshold
        full = at_full_depth(many, len(exits))
        early = at_threshold(many, len(exits), threshold)
        found["threshold"] = threshold
        found["texts_of_file"] = summary(engine_rounds(exits, backend, full, early))
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
    if args.requests < LEAST_REQUESTS:
        parser.error(f"--requests must be {LEAST_REQUESTS} or more, or slots are never full")
    if not torch.cuda.is_available():
        print("no GPU here; nothing is measured")
        return
    device = torch.device("cuda")
    torch.backends.cuda.matmul.allow_tf32 = False
    record: dict[str, Any] = {
        **circumstances(),
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "event_loop": type(new_loop()).__module__,
        "limits": card_limits(device),
    }
    peak = record["limits"]["bfloat16_tflops"]
    kinds = {
        "short": rows(DIFFERENT, 4, LENGTHS_SHORT),
        "mixed": rows(DIFFERENT, 2, LENGTHS_SHORT, LENGTHS_LONG),
    }
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        name: partial(of_shape, name, kinds, peak, args) for name in SHAPES
    }
    if args.texts:
        measures = {"shipped_checkpoint": partial(shipped, peak, args), **measures}
    settle()
    for name, measure in measures.items():
        record[name] = measure()
        print(json.dumps({name: record[name]}, indent=1), flush=True)
        if args.json:  # what comes after may fail
            args.json.write_text(json.dumps(record, indent=1) + "\n")
        torch.cuda.empty_cache()
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
