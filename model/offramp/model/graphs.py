"""CUDA graphs of resident stages: one for each stage and token bucket, captured once.

A replay costs the host one call instead of a hundred launches. All graphs share one memory pool
and the same static inputs; a stream runs them in order, so the next step's inputs may be sent
while this one runs.
"""

from bisect import bisect_left
from functools import cache

import torch
from torch import Tensor

from offramp.model.resident import (
    TOKENS_A_ROW,
    ResidentStages,
    StepInputs,
    rows_of,
    token_buckets,
)

CAPTURE_WARM_UPS = 2


def length_of(bucket: int) -> int:
    """Numbers that a step of a bucket is told."""
    return 2 * (rows_of(bucket) + bucket)


class EagerSteps:
    """Without graphs, on whatever device the stages are on.

    All that a step is told lies in one int32 buffer, so that one copy brings it: slots, lengths,
    token ids and token types, each as long as the step's bucket has rows or tokens.
    """

    def __init__(
        self, stages: ResidentStages, max_rows: int, max_tokens: int, device: torch.device
    ) -> None:
        self._stages = stages
        self.buckets = token_buckets(max(max_tokens, max_rows * TOKENS_A_ROW))
        self.told = torch.zeros(length_of(self.buckets[-1]), dtype=torch.int32, device=device)
        """What the next step is told; `length_of` its bucket matter."""

    def bucket(self, rows: int, tokens: int) -> int:
        """The number of tokens that a step is computed at; raises ValueError."""
        at = bisect_left(self.buckets, max(tokens, rows * TOKENS_A_ROW))
        if at == len(self.buckets):
            raise ValueError(
                f"{rows} rows of {tokens} tokens are more than the {rows_of(self.buckets[-1])} rows"
                f" and {self.buckets[-1]} tokens of a step"
            )
        return self.buckets[at]

    def inputs(self, bucket: int) -> StepInputs:
        """What a step of this bucket is told, as views."""
        rows = rows_of(bucket)
        slots, lengths, ids, types, _ = self.told.tensor_split(
            (rows, 2 * rows, 2 * rows + bucket, 2 * (rows + bucket))
        )
        return StepInputs(ids, types, slots, lengths)

    @torch.inference_mode()
    def run(self, stage: int, bucket: int) -> Tensor:
        """Readings of the rows, on the device; they are overwritten by a later step."""
        return self._stages.step(stage, self.inputs(bucket))


@cache
def _streams(device: int) -> tuple[torch.cuda.Stream, torch.cuda.Stream]:
    """A card's streams to warm up and to capture on, the same for all models that come and go.

    cuBLAS keeps a workspace for every stream it meets. That of the stream that captured is in the
    graphs, which run while another model warms up, so that must not be on the same stream; and new
    streams for every model would be new workspaces.
    """
    return torch.cuda.Stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class GraphedSteps(EagerSteps):
    """With graphs; `capture` is called once, before the first step."""

    def __init__(
        self, stages: ResidentStages, max_rows: int, max_tokens: int, device: torch.device
    ) -> None:
        super().__init__(stages, max_rows, max_tokens, device)
        self._graphs: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    @torch.inference_mode()
    def capture(self) -> None:
        """Capture every stage at every bucket, the largest first: its memory serves the others."""
        pool = torch.cuda.graph_pool_handle()
        warming, capturing = _streams(torch.cuda.current_device())
        # Weights, store and what steps are told may still be on their way, behind another's steps.
        warming.wait_stream(torch.cuda.current_stream())
        for bucket in reversed(self.buckets):
            inputs = self.inputs(bucket)
            for stage in range(self._stages.config.exits):
                with torch.cuda.stream(warming):
                    for _ in range(CAPTURE_WARM_UPS):
                        self._stages.step(stage, inputs)
                torch.cuda.synchronize()
                graph = torch.cuda.CUDAGraph()
                # Another thread may be running the steps of a model that this one is to replace.
                with torch.cuda.graph(
                    graph, pool=pool, stream=capturing, capture_error_mode="thread_local"
                ):
                    readings = self._stages.step(stage, inputs)
                self._graphs[stage, bucket] = (graph, readings)

    def run(self, stage: int, bucket: int) -> Tensor:
        """Replay the step's graph."""
        graph, readings = self._graphs[stage, bucket]
        graph.replay()
        return readings
