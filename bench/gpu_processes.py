"""How many requests several processes put through one GPU, each with an engine of its own."""

import multiprocessing as mp
from collections.abc import Callable
from itertools import cycle, islice
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Any

import torch
from gpu_engine import (
    ROUNDS,
    Rounds,
    Work,
    at_full_depth,
    at_recorded_exits,
    run_on_loop,
    summary,
    throughput,
)
from gpu_subjects import DIFFERENT, LENGTHS_SHORT, Limits, backend_of, random_checkpoint, rows

from offramp.model.precision import Precision
from offramp.scheduler.cost import CostModel
from offramp.server.garbage import settle

PATIENCE = 240.0
"""Seconds until all processes must have loaded, or run."""

Figures = dict[str, float]


def several(shape: str, processes: int, requests: int) -> dict[str, Any]:
    """Full depth and recorded exits on short texts: all processes begin each run together."""
    spawn = mp.get_context("spawn")
    barrier: Barrier = spawn.Barrier(processes)
    said: Queue[Rounds] = spawn.Queue()
    running = [
        spawn.Process(target=_one, args=(shape, requests, barrier, said)) for _ in range(processes)
    ]
    for process in running:
        process.start()
    told = [said.get(timeout=PATIENCE) for _ in running]
    for process in running:
        process.join(PATIENCE)
    rounds: Rounds = []
    for of_each in zip(*told, strict=True):
        full, early = (_together(figures) for figures in zip(*of_each, strict=True))
        rounds.append((full, early))
    return {"processes": processes, **summary(rounds)}


def _together(figures: tuple[Figures, ...]) -> Figures:
    rate = sum(one["per_second"] for one in figures)
    return {"per_second": rate, "mean_layers": figures[0]["mean_layers"]}


def _one(shape: str, requests: int, barrier: Barrier, said: "Queue[Rounds]") -> None:
    checkpoint = random_checkpoint(shape)
    exits = checkpoint.config.exit_layers
    backend = backend_of(checkpoint, torch.device("cuda"), Precision.BFLOAT16, Limits())
    many = list(islice(cycle(rows(DIFFERENT, 4, LENGTHS_SHORT)), requests))
    cost = CostModel(len(exits))
    settle()

    def run(work: Work) -> Figures:
        return run_on_loop(throughput(exits, backend, cost, Limits(), work))

    make: tuple[Callable[..., Work], ...] = (at_full_depth, at_recorded_exits)
    full, early = (kind(many, len(exits)) for kind in make)
    run(early[: len(early) // 2])

    def begun_together(work: Work) -> Figures:
        barrier.wait(PATIENCE)
        return run(work)

    said.put([(begun_together(full), begun_together(early)) for _ in range(ROUNDS)])
