"""The stage forward in process: every precision against the float32 module, and its speed.

    python bench/stages.py --texts sst2/test.jsonl.gz --json bench/results/stages.json

Whole files are run stage by stage in batches, as the server does, once by the module that was
trained and once by the runner that serves; labels, exits and logits are compared. Then the
runner's time at full depth, one sentence at a time and in steps of some hundred tokens, against
the floor: its arithmetic at the machine's rate in a large matrix product, measured in turn.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from offramp.cli.load.circumstances import circumstances, yardstick
from offramp.model.checkpoint import Checkpoint, load_checkpoint
from offramp.model.config import EncoderConfig
from offramp.model.packing import PackedTokens
from offramp.model.precision import Precision
from offramp.model.rules import score_exits
from offramp.model.runner import ModuleRunner, StageRunner, runner_of
from offramp.model.tokenizer import Tokens
from offramp.training.data import load_dataset
from offramp.training.sweep import leaving_exits

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
ROWS = 16
STEP_TOKENS = (32, 64, 128, 256, 512)
ROUNDS = 2
LATENCY_SENTENCES = 100


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description="Compare the stage runners with the module, and with the arithmetic floor."
    )
    parser.add_argument("--texts", type=Path, required=True, help="JSON lines: text, label")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "sst2-minilm")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument(
        "--cpu-time", action="store_true", help="count CPU seconds, for machines that others use"
    )
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    checkpoint = load_checkpoint(args.checkpoint)
    examples = load_dataset(args.texts, checkpoint.config.labels).examples
    tokens = checkpoint.tokenizer.encode([example.pair for example in examples])
    labels = torch.tensor([example.label for example in examples])
    runners: dict[str, StageRunner] = {"module": ModuleRunner(checkpoint.model, torch.float32)}
    for precision in (Precision.FLOAT32, Precision.BFLOAT16, Precision.INT8):
        runners[precision.value] = runner_of(checkpoint.model, CPU, precision)
        for piece in runners[precision.value].warm(max(*STEP_TOKENS, checkpoint.config.max_tokens)):
            piece()
    with torch.inference_mode():
        record = {
            **circumstances(),
            "threads": torch.get_num_threads(),
            "texts": args.texts.name,
            "equality": _equality(checkpoint, runners, tokens, labels),
            "clock": "cpu" if args.cpu_time else "wall",
            "speed": _speed(
                checkpoint,
                runners,
                tokens,
                time.process_time if args.cpu_time else time.perf_counter,
            ),
        }
    print(json.dumps(record, indent=1))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(record, indent=1) + "\n")


def full_depth(runner: StageRunner, packed: PackedTokens, stages: int) -> list[torch.Tensor]:
    """Logits of every exit."""
    hidden, pooled = runner.embed(packed), None
    logits: list[torch.Tensor] = []
    for stage in range(stages):
        hidden, pooled = runner.run_layers(stage, hidden, pooled, packed.layout)
        logits.append(runner.logits(stage, pooled))
    return logits


def _equality(
    checkpoint: Checkpoint,
    runners: dict[str, StageRunner],
    tokens: Sequence[Tokens],
    labels: torch.Tensor,
) -> dict[str, Any]:
    exits = checkpoint.config.exits
    batches = [sorted(tokens[at : at + ROWS], key=len) for at in range(0, len(tokens), ROWS)]
    order = [
        at + index
        for at in range(0, len(tokens), ROWS)
        for index in sorted(
            range(len(tokens[at : at + ROWS])),
            key=lambda i, at=at: len(tokens[at + i]),  # type: ignore[misc]
        )
    ]
    truth = labels[torch.tensor(order)]
    outcomes: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}
    for name, runner in runners.items():
        parts = [full_depth(runner, PackedTokens.of(batch, CPU), exits) for batch in batches]
        logits = torch.stack([torch.cat(stage) for stage in zip(*parts, strict=True)])
        calibration = checkpoint.calibration
        scored = score_exits(calibration.rule, logits, calibration.temperatures)
        threshold = torch.tensor([calibration.default_threshold], dtype=torch.float64)
        (exit_of,) = leaving_exits(scored.scores, threshold)
        said = scored.labels
        outcomes[name] = (logits, said.gather(0, exit_of[None])[0], exit_of)
    wanted, wanted_labels, wanted_exits = outcomes["module"]
    return {
        name: {
            "sentences": len(truth),
            "largest_logit_difference": float((logits - wanted).abs().max()),
            "labels_as_module": float((said == wanted_labels).float().mean()),
            "exits_as_module": float((exit_of == wanted_exits).float().mean()),
            "accuracy_default_threshold": float((said == truth).float().mean()),
            "accuracy_full_depth": float((logits[-1].argmax(1) == truth).float().mean()),
            "mean_exit_layers": statistics.fmean(
                checkpoint.config.exit_layers[int(index)] for index in exit_of
            ),
        }
        for name, (logits, said, exit_of) in outcomes.items()
    }


def _speed(
    checkpoint: Checkpoint,
    runners: dict[str, StageRunner],
    tokens: Sequence[Tokens],
    clock: Callable[[], float],
) -> dict[str, Any]:
    exits = checkpoint.config.exits
    alone = [PackedTokens.of([row], CPU) for row in tokens[:LATENCY_SENTENCES]]
    steps = {size: _steps(tokens, size) for size in STEP_TOKENS}
    for runner in runners.values():
        for packed in alone:
            full_depth(runner, packed, exits)
    times: dict[str, list[float]] = {name: [] for name in runners}
    shares: dict[str, dict[int, list[float]]] = {n: {s: [] for s in steps} for n in runners}
    yardsticks: list[float] = []
    for _ in range(ROUNDS):
        for name, runner in runners.items():
            for packed in alone:
                started = clock()
                full_depth(runner, packed, exits)
                times[name].append((clock() - started) * 1e3)
            for size, batches in steps.items():
                rate = yardstick(clock)
                assert rate is not None
                yardsticks.append(rate)
                for packed in batches:
                    started = clock()
                    full_depth(runner, packed, exits)
                    seconds = clock() - started
                    work = arithmetic(checkpoint.config.encoder, packed.layout.lengths)
                    shares[name][size].append(work / seconds / rate / 1e9)
    return {
        "yardstick_gflops": statistics.median(yardsticks),
        "runners": {
            name: {
                "one_sentence_p50_ms": statistics.median(times[name]),
                "share_of_floor_by_tokens": {
                    size: {"median": statistics.median(found), "best": max(found)}
                    for size, found in shares[name].items()
                },
            }
            for name in runners
        },
    }


def arithmetic(shape: EncoderConfig, lengths: Sequence[int]) -> float:
    """Floating-point operations of all layers on rows of these lengths, norms not counted."""
    size = shape.hidden_size
    linear = 2 * sum(lengths) * (4 * size * size + 2 * size * shape.intermediate_size)
    attention = 4 * size * sum(length * length for length in lengths)
    return shape.layers * float(linear + attention)


def _steps(tokens: Sequence[Tokens], size: int) -> list[PackedTokens]:
    """Some batches of sentences, as many as `size` tokens hold."""
    batches: list[PackedTokens] = []
    batch: list[Tokens] = []
    for row in tokens:
        if batch and sum(map(len, batch)) + len(row) > size:
            batches.append(PackedTokens.of(sorted(batch, key=len), CPU))
            batch = []
        batch.append(row)
    return batches[: max(2, 1024 // size)]


if __name__ == "__main__":
    main()
