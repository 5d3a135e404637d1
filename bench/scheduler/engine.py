"""The scheduler on the real engine and model: exits' gain at saturation, and the simulator's word.

    python bench/scheduler/engine.py --checkpoint checkpoints/sst2-minilm --data sst2/dev.jsonl.gz

Saturation: all texts at once, with exits and without in turn, and the plain loop of full batches
through every stage. `of_layer_speedup` is the wall-clock gain over L / E of the same run.
Validation: costs are measured first; then the same arrivals, texts and exits go through the
simulator and, open loop, through the engine.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from offramp.cli.measured import Measured, measure_texts
from offramp.model.checkpoint import Checkpoint, load_checkpoint
from offramp.model.tokenizer import Tokens
from offramp.scheduler.backend import Batch
from offramp.scheduler.config import SchedulerConfig
from offramp.scheduler.cost import CostModel
from offramp.scheduler.engine import Engine
from offramp.scheduler.experiment import Machine, figures
from offramp.scheduler.policy import Adaptive
from offramp.scheduler.request import Answer, Departure, Request, Terms
from offramp.scheduler.scheduler import Scheduler
from offramp.scheduler.simulation import simulate
from offramp.scheduler.workload import Workload, read
from offramp.server.backend import TorchBackend
from offramp.server.warmup import warm_up
from offramp.training.data import load_dataset

ROWS, TOKENS, SLOTS = 32, 512, 64
LOADS = (0.5, 0.8)
NEVER = 2.0


@dataclass(frozen=True, slots=True)
class Bench:
    """A warm model, its texts, and the thread that runs it."""

    checkpoint: Checkpoint
    backend: TorchBackend
    texts: Sequence[Tokens]
    device: ThreadPoolExecutor

    def config(self) -> SchedulerConfig:
        """The server's limits, but for a queue that takes everything."""
        return SchedulerConfig(
            self.checkpoint.config.exits,
            slots=SLOTS,
            max_queue_requests=10**6,
            max_queue_tokens=10**9,
            max_batch_rows=ROWS,
            max_batch_tokens=TOKENS,
        )

    def taught(self) -> CostModel:
        """A cost model warmed up as the server's."""
        cost = CostModel(self.checkpoint.config.exits)
        work = self.device.submit(
            warm_up, self.backend, self.checkpoint.config, self.config(), cost
        )
        work.result()
        return cost

    async def serve(
        self, threshold: float, times: Sequence[float], steps_in_flight: int = 1
    ) -> tuple[float, list[Answer]]:
        """Submit text i at times[i]; returns the seconds until all were answered, and answers."""
        engine = Engine(
            Scheduler(self.config(), Adaptive(), self.taught()),
            self.backend,
            self.device,
            steps_in_flight=steps_in_flight,
        )
        task = asyncio.create_task(engine.run())
        terms = Terms(threshold, 0, self.checkpoint.config.exits - 1)
        began = time.monotonic()
        futures: list[asyncio.Future[Answer]] = []
        for at, due in enumerate(times):
            text = self.texts[at % len(self.texts)]
            if (wait := began + due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            futures.append(engine.submit(text, len(text), terms, began + due))
        answers = list(await asyncio.gather(*futures))
        seconds = time.monotonic() - began
        engine.stop()
        await task
        return seconds, answers

    def plain(self, count: int) -> float:
        """Seconds of the plain loop: the largest batches that fit, through every stage."""

        def loop() -> float:
            began = time.perf_counter()
            at = 0
            while at < count:
                group: list[Request] = []
                room = TOKENS
                while at < count and len(group) < ROWS:
                    text = self.texts[at % len(self.texts)]
                    if len(text) > room and group:
                        break
                    room -= len(text)
                    terms = Terms(NEVER, 0, 0)
                    group.append(Request(text, len(text), terms, 0.0, _ignore, slot=len(group)))
                    at += 1
                for stage in range(self.checkpoint.config.exits):
                    self.backend.run(Batch(stage, tuple(group), 0.0))
            return time.perf_counter() - began

        return self.device.submit(loop).result()


def saturation(bench: Bench, threshold: float, count: int, rounds: int) -> dict[str, Any]:
    """Exits, no exits, plain loop, two steps in flight, in turn."""
    seconds: dict[str, list[float]] = {"exits": [], "none": [], "plain": [], "two": []}
    layers = 1.0
    depth = bench.checkpoint.config.exit_layers
    for _ in range(rounds):
        took, answers = asyncio.run(bench.serve(threshold, [0.0] * count))
        seconds["exits"].append(took)
        layers = statistics.mean(depth[answer.exit] for answer in answers)
        seconds["none"].append(asyncio.run(bench.serve(NEVER, [0.0] * count))[0])
        seconds["plain"].append(bench.plain(count))
        seconds["two"].append(asyncio.run(bench.serve(threshold, [0.0] * count, 2))[0])
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    gains = [none / exits for none, exits in zip(seconds["none"], seconds["exits"], strict=True)]
    speedup = depth[-1] / layers
    return {
        "texts": count,
        "layer_speedup": round(speedup, 3),
        "wall_clock_speedup": round(statistics.median(gains), 3),
        "of_layer_speedup": round(statistics.median(gains) / speedup, 3),
        "no_exits_over_plain_loop": round(middle["plain"] / middle["none"], 3),
        "two_in_flight_over_one": round(middle["exits"] / middle["two"], 3),
        "seconds": {name: [round(one, 2) for one in times] for name, times in seconds.items()},
    }


def validation(bench: Bench, measured: Measured, threshold: float, seconds: float) -> list[Any]:
    """Predicted and actual figures at two loads and at saturation."""
    stages = bench.checkpoint.config.exits
    machine = Machine(measured.cost.predict, stages, ROWS, TOKENS, SLOTS)
    capacity = machine.capacity(measured.shares, measured.mean_tokens)
    rows: list[Any] = []
    for load in (*LOADS, None):
        rate = (load or 1e6) * capacity
        count = int(rate * seconds) if load else 600
        workload = Workload(rate, measured.shares, count, seed=5)
        times = [request.arrived for request in workload.generate()]
        terms = Terms(0.5, 0, stages - 1)
        arrivals = [
            Request(left, tokens, terms, due, _ignore)
            for at, due in enumerate(times)
            for left, tokens in [measured.samples[at % len(measured.samples)]]
        ]
        taught = CostModel(stages)
        for stage in range(stages):
            for size in (1, 4, 10, 20):
                tokens = round(size * measured.mean_tokens)
                taught.observe(stage, size, tokens, machine.cost(stage, size, tokens))
        scheduler = Scheduler(bench.config(), Adaptive(), taught)

        def cost(batch: Batch) -> float:
            return machine.cost(batch.stage, len(batch.requests), batch.tokens)

        predicted = figures(simulate(scheduler, arrivals, read, cost), ROWS)
        took, answers = asyncio.run(bench.serve(threshold, times))
        actual = _actual(took, answers)
        row: dict[str, Any] = {"load": load or "saturation", "requests": count}
        for key in ("p50", "p99", "throughput"):
            foreseen = getattr(predicted, key)
            row[key] = {
                "predicted": round(foreseen, 4),
                "actual": round(actual[key], 4),
                "ratio": round(foreseen / actual[key], 3),
            }
        rows.append(row)
    return rows


def _actual(seconds: float, answers: Sequence[Answer]) -> dict[str, float]:
    times = sorted(answer.total for answer in answers)
    return {
        "p50": times[len(times) // 2],
        "p99": times[int(len(times) * 0.99)],
        "throughput": len(times) / seconds,
    }


def _ignore(departure: Departure) -> None:
    del departure


def main() -> None:
    """Measure both and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--texts", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each validation run")
    args = parser.parse_args()
    checkpoint = load_checkpoint(args.checkpoint, "cpu")
    data = load_dataset(args.data, checkpoint.config.labels)
    texts = checkpoint.tokenizer.encode([one.pair for one in data.examples[: args.texts]])
    threshold = checkpoint.calibration.default_threshold
    with ThreadPoolExecutor(1) as device:
        backend = TorchBackend(checkpoint, SLOTS, torch.device("cpu"))
        bench = Bench(checkpoint, backend, texts, device)
        report: dict[str, Any] = {
            "machine": "2 cores, no GPU",
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "threshold": threshold,
        }
        report["saturation"] = saturation(bench, threshold, args.texts, args.rounds)
        print(json.dumps(report["saturation"]))
        measured = device.submit(measure_texts, checkpoint, texts, threshold, ROWS).result()
        report["validation"] = validation(bench, measured, threshold, args.seconds)
        print(json.dumps(report["validation"], indent=1))
    if args.output:
        args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
