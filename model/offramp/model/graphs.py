"""CUDA graphs of resident stages: one for each stage and token bucket, captured once.

A replay costs the host one call instead of a hundred launches. All graphs share one memory pool
and the same static inputs; a stream runs them in order, so the next step's inputs may be sent
while this one runs.
"""

from bisect import bisect_left
from typing import Protocol

import torch
from torch import Tensor

from offramp.model.resident import ResidentStages, StepInputs, token_buckets

CAPTURE_WARM_UPS = 2


class StepRunner(Protocol):
    """Runs a step on inputs that were written into its static ones."""

    def inputs(self, tokens: int) -> StepInputs:
        """The static inputs of the bucket that holds so many tokens."""
        ...

    def run(self, stage: int, tokens: int) -> Tensor:
        """Readings of the rows, on the device; they are overwritten by a later step."""
        ...


class EagerSteps:
    """Without graphs, on whatever device the stages are on."""

    def __init__(self, stages: ResidentStages, max_tokens: int, device: torch.device) -> None:
        self._stages = stages
        self.buckets = token_buckets(max_tokens)
        most = self.buckets[-1]
        rows = stages.max_rows
        self._ids = torch.zeros(most, dtype=torch.int64, device=device)
        self._types = torch.zeros_like(self._ids)
        self._slots = torch.full((rows,), stages.spare_slot, dtype=torch.int64, device=device)
        self._lengths = torch.zeros(rows, dtype=torch.int64, device=device)

    def bucket(self, tokens: int) -> int:
        """The number of tokens that a step of `tokens` is computed at; raises ValueError."""
        at = bisect_left(self.buckets, tokens)
        if at == len(self.buckets):
            raise ValueError(f"{tokens} tokens are more than the {self.buckets[-1]} of a step")
        return self.buckets[at]

    def inputs(self, tokens: int) -> StepInputs:
        """Views of the static inputs."""
        bucket = self.bucket(tokens)
        return StepInputs(self._ids[:bucket], self._types[:bucket], self._slots, self._lengths)

    def run(self, stage: int, tokens: int) -> Tensor:
        """Run the step now."""
        return self._stages.step(stage, self.inputs(tokens))


class GraphedSteps(EagerSteps):
    """With graphs; `capture` is called once, before the first step."""

    def __init__(self, stages: ResidentStages, max_tokens: int, device: torch.device) -> None:
        super().__init__(stages, max_tokens, device)
        self._graphs: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    @torch.inference_mode()
    def capture(self) -> None:
        """Capture every stage at every bucket, the largest first: its memory serves the others."""
        pool = torch.cuda.graph_pool_handle()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        for bucket in reversed(self.buckets):
            inputs = self.inputs(bucket)
            for stage in range(self._stages.config.exits):
                with torch.cuda.stream(side):
                    for _ in range(CAPTURE_WARM_UPS):
                        self._stages.step(stage, inputs)
                torch.cuda.synchronize()
                graph = torch.cuda.CUDAGraph()
                # Another thread may be running the steps of a model that this one is to replace.
                with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                    readings = self._stages.step(stage, inputs)
                self._graphs[stage, bucket] = (graph, readings)

    def run(self, stage: int, tokens: int) -> Tensor:
        """Replay the step's graph."""
        graph, readings = self._graphs[stage, self.bucket(tokens)]
        graph.replay()
        return readings
