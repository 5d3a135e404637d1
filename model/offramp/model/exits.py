"""Exit heads on a staged encoder: where a request may leave, and what is read there.

Each exit owns a layer mix (softmax-normalised weights over the pooled vectors of all layers up
to the exit) and one linear head: the heads of Schwartz et al., "The Right Tool for the Job"
(ACL 2020), section 3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from offramp.model.config import ModelConfig, Pooling
from offramp.model.encoder import Encoder
from offramp.model.packing import Layout, PackedTokens


@dataclass(frozen=True, slots=True)
class StageOutput:
    """What one stage leaves behind for a batch of rows.

    `hidden` is `[tokens, hidden]`, `pooled` `[rows, layers so far, hidden]`, `logits`
    `[rows, labels]`, before any temperature.
    """

    hidden: Tensor
    pooled: Tensor
    logits: Tensor


def attended(rows: Tensor, query: Tensor) -> Tensor:
    """Mean of the tokens of `[rows, length, hidden]`, weighted by a query: `[rows, hidden]`."""
    weights = torch.matmul(rows, query).float().softmax(1).to(rows.dtype)
    return torch.matmul(weights.unsqueeze(1), rows).squeeze(1)


class ExitHead(nn.Module):
    """Layer mix and linear classifier of one exit."""

    def __init__(self, layers: int, hidden_size: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(layers))
        self.linear = nn.Linear(hidden_size, labels)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, pooled: Tensor) -> Tensor:
        """Logits `[rows, labels]` of pooled vectors `[rows, layers, hidden]`."""
        mixed = torch.einsum("rlh,l->rh", pooled, self.mix.softmax(0).to(pooled.dtype))
        logits: Tensor = self.linear(self.dropout(mixed))
        return logits


class MultiExitModel(nn.Module):
    """An encoder with an exit head after each of `config.exit_layers`."""

    def __init__(self, config: ModelConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        size = config.encoder.hidden_size
        self.encoder = Encoder(config.encoder, dropout)
        self.pooler = nn.Linear(size, size) if config.pooling is Pooling.CLS else None
        # All zero, attention is the mean.
        queries = torch.zeros(config.encoder.layers, size)
        self.queries = nn.Parameter(queries) if config.pooling is Pooling.ATTENTION else None
        self.heads = nn.ModuleList(
            ExitHead(layers, size, len(config.labels), dropout) for layers in config.exit_layers
        )

    def run_stage(
        self, stage: int, hidden: Tensor, pooled: Tensor | None, layout: Layout
    ) -> StageOutput:
        """Run the layers of `stage` and read its exit; takes what `run_layers` does."""
        hidden, pooled = self.run_layers(stage, hidden, pooled, layout)
        return StageOutput(hidden, pooled, self.logits(stage, pooled))

    def run_layers(
        self, stage: int, hidden: Tensor, pooled: Tensor | None, layout: Layout
    ) -> tuple[Tensor, Tensor]:
        """Hidden states and pooled vectors after the layers of `stage`.

        `hidden` is `[tokens, hidden]` from `encoder.embed` or the stage before, `pooled`
        `[rows, layers so far, hidden]` the stage before's (None for stage 0).
        """
        vectors = [] if pooled is None else [pooled]
        for index in self.config.stage_layers(stage):
            hidden = self.encoder.layer(index, hidden, layout)
            vectors.append(self._pool(index, hidden, layout).unsqueeze(1))
        return hidden, torch.cat(vectors, dim=1)

    def logits(self, stage: int, pooled: Tensor) -> Tensor:
        """What the exit of `stage` says of `[rows, layers so far, hidden]`: `[rows, labels]`."""
        logits: Tensor = self.heads[stage](pooled)
        return logits

    def forward(self, packed: PackedTokens) -> list[Tensor]:
        """Logits of every exit, `[rows, labels]` each, with nobody leaving early."""
        hidden, pooled = self.encoder.embed(packed), None
        logits: list[Tensor] = []
        for stage in range(self.config.exits):
            output = self.run_stage(stage, hidden, pooled, packed.layout)
            hidden, pooled = output.hidden, output.pooled
            logits.append(output.logits)
        return logits

    def _pool(self, layer: int, hidden: Tensor, layout: Layout) -> Tensor:
        rows = [run.of(hidden) for run in layout.runs]
        if self.queries is not None:
            return torch.cat([attended(run, self.queries[layer]) for run in rows])
        if self.pooler is None:
            return torch.cat([run.mean(1) for run in rows])
        first: Tensor = self.pooler(torch.cat([run[:, 0] for run in rows]))
        return first.tanh()
