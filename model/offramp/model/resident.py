"""The stage forward for a GPU: everything stays on the card, every shape is known beforehand.

A step is few large kernels between two small copies: slots, lengths and, for the first stage,
token ids go up; label, score and probabilities of each row come down. Where every token
lies is worked out on the card, rows are gathered from the store and scattered back there, and
attention runs on packed rows by variable lengths.

For CUDA graphs all shapes are static. Tokens are computed at the next of a few *buckets*, rows at
one for every 16 tokens of it. Tokens beyond the batch belong to no row; they live in a slot of
their own, one past the last, and are never read. Rows beyond it have length 0.

The same code runs on a CPU, where attention is masked instead; the tests compare it there.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from offramp.model.calibration import Calibration
from offramp.model.config import Pooling
from offramp.model.encoder import EncoderLayer
from offramp.model.exits import ExitHead, MultiExitModel
from offramp.model.projection import activate
from offramp.model.readings import readings_of

LABEL, SCORE, PROBABILITIES = 0, 1, 2
"""Columns of a step's readings; the probabilities are this one and all that follow."""

SMALLEST_BUCKET = 16

TOKENS_A_ROW = 16
"""A bucket holds a row for so many tokens; of shorter texts fewer fill it."""

FLASH_TYPES = (torch.bfloat16, torch.float16)
FLASH_STEP, FLASH_MOST = 8, 256
"""What variable-length attention takes: types, and sizes of a head, multiples of the one up to the
other. Other rows are masked, as on a CPU."""


def token_buckets(most: int) -> tuple[int, ...]:
    """Powers of two and halfway between, from 16 to at least `most` tokens."""
    buckets = [SMALLEST_BUCKET]
    while buckets[-1] < most:
        last = buckets[-1]
        power = last & (last - 1) == 0
        buckets.append(last * 3 // 2 if power else last * 4 // 3)
    return tuple(buckets)


def rows_of(bucket: int) -> int:
    """Rows that a step of a bucket may have."""
    return bucket // TOKENS_A_ROW


@dataclass(frozen=True, slots=True)
class StepInputs:
    """What one step is told, all int32 on the device.

    `ids` and `types` are `[bucket]` and matter to the first stage alone; `slots` and `lengths`
    are `[rows_of(bucket)]`, the unused rows of length 0 in the spare slot.
    """

    ids: Tensor
    types: Tensor
    slots: Tensor
    lengths: Tensor


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the tokens of a step lie: their row, their position in it, their place in the store.

    `bounds` is int32 `[rows + 1]`, the rows' starts and the last one's end.
    """

    row: Tensor
    position: Tensor
    stored: Tensor
    bounds: Tensor


class ResidentStages(nn.Module):
    """A model and its hidden-state store on one device."""

    def __init__(
        self,
        model: MultiExitModel,
        calibration: Calibration,
        slots: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__()
        config = model.config
        self.config = config
        self.spare_slot = slots
        self._model = model.eval().to(device, dtype)
        self._temperatures, self._rule = calibration.temperatures, calibration.rule
        size, tokens = config.encoder.hidden_size, config.max_tokens
        self._hidden = torch.zeros((slots + 1) * tokens, size, dtype=dtype, device=device)
        layers = config.encoder.layers
        self._pooled = torch.zeros(slots + 1, layers, size, dtype=dtype, device=device)
        heads = [head for head in model.heads if isinstance(head, ExitHead)]
        self._mixes = [head.mix.detach().float().softmax(0).to(dtype) for head in heads]
        self._linears = [head.linear for head in heads]

    def step(self, stage: int, inputs: StepInputs) -> Tensor:
        """Run one stage on the rows in these slots: readings `[rows, 2 + labels]`, float32.

        No operation waits for the device, so it can be captured.
        """
        places, slots = self._places(inputs), inputs.slots.long()
        if stage == 0:
            hidden = self._embed(inputs, places)
        else:
            hidden = self._hidden.index_select(0, places.stored)
        lengths = inputs.lengths.clamp(min=1).unsqueeze(1)
        for index in self.config.stage_layers(stage):
            layer = self._model.encoder.layers[index]
            assert isinstance(layer, EncoderLayer)
            hidden = self._layer(layer, hidden, places)
            self._pooled[slots, index] = self._pool(index, hidden, places, lengths)
        if stage + 1 < self.config.exits:
            self._hidden.index_copy_(0, places.stored, hidden)
        return self._read(stage, self._pooled[slots])

    def _places(self, inputs: StepInputs) -> _Places:
        ends = inputs.lengths.cumsum(0)  # int64
        token = torch.arange(len(inputs.ids), device=ends.device)
        row = torch.searchsorted(ends, token, right=True)
        starts = functional.pad(ends, (1, 0))
        position = (token - starts[row]).clamp(max=self.config.max_tokens - 1)
        slots = functional.pad(inputs.slots, (0, 1), value=self.spare_slot)
        stored = slots[row].long() * self.config.max_tokens + position
        return _Places(row, position, stored, starts.int())

    def _embed(self, inputs: StepInputs, places: _Places) -> Tensor:
        embeddings = self._model.encoder.embeddings
        hidden: Tensor = embeddings.word(inputs.ids)
        hidden = hidden + embeddings.position(places.position + embeddings.position_offset)
        if embeddings.token_type is not None:
            hidden = hidden + embeddings.token_type(inputs.types)
        hidden = embeddings.norm(hidden)
        if embeddings.project is not None:
            hidden = embeddings.project(hidden)
        return hidden

    def _layer(self, layer: EncoderLayer, hidden: Tensor, places: _Places) -> Tensor:
        context = self._attend(layer.qkv(hidden), layer.heads, places)
        hidden = layer.attention_norm(hidden + layer.attention_out(context))
        raised = activate(layer.activation, layer.up(hidden))
        output: Tensor = layer.norm(hidden + layer.down(raised))
        return output

    def _attend(self, qkv: Tensor, heads: int, places: _Places) -> Tensor:
        query, key, value = qkv.view(len(qkv), 3, heads, -1).unbind(1)
        size = query.shape[-1]
        flat = size % FLASH_STEP == 0 and size <= FLASH_MOST
        if qkv.is_cuda and qkv.dtype in FLASH_TYPES and flat:
            from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415 - needs a GPU build

            longest = self.config.max_tokens
            context = varlen_attn(query, key, value, places.bounds, places.bounds, longest, longest)
            assert isinstance(context, Tensor)
            return context.flatten(1)
        same_row = places.row.unsqueeze(1) == places.row
        # A mask makes nothing of other rows' numbers unless they are undefined, so these are left
        # out, and then added to all tokens of their own row, as a sum that is otherwise nothing.
        attended = functional.scaled_dot_product_attention(
            query.transpose(0, 1).unsqueeze(0),
            key.nan_to_num(0.0, 0.0, 0.0).transpose(0, 1).unsqueeze(0),
            value.nan_to_num(0.0, 0.0, 0.0).transpose(0, 1).unsqueeze(0),
            attn_mask=same_row,
        )
        nothing = ((key - key) + (value - value)).sum((1, 2))
        undefined = nothing.new_zeros(len(places.bounds)).index_add_(0, places.row, nothing)
        return attended[0].transpose(0, 1).flatten(1) + undefined[places.row].unsqueeze(1)

    def _pool(self, layer: int, hidden: Tensor, places: _Places, lengths: Tensor) -> Tensor:
        if self.config.pooling is Pooling.CLS:
            first = hidden[places.bounds[:-1].long().clamp(max=len(hidden) - 1)]
            assert self._model.pooler is not None
            pooled: Tensor = self._model.pooler(first)
            return pooled.tanh()
        if self._model.queries is not None:
            scores = torch.mv(hidden, self._model.queries[layer])
            return _weighted(scores, hidden, places.row, len(lengths))
        sums = hidden.new_zeros(len(lengths) + 1, hidden.shape[1], dtype=torch.float32)
        sums.index_add_(0, places.row, hidden.float())
        return (sums[:-1] / lengths).to(hidden.dtype)

    def _read(self, stage: int, pooled: Tensor) -> Tensor:
        mix = self._mixes[stage]
        mixed = torch.matmul(mix, pooled[:, : len(mix)])
        logits = self._linears[stage](mixed).float()
        probabilities = (logits / self._temperatures[stage]).softmax(-1)
        labels = probabilities.argmax(-1)
        scores, _ = self._rule.scores(stage, readings_of(labels, probabilities), None)
        return torch.cat([torch.stack([labels, scores], 1).float(), probabilities], dim=1)


def _weighted(scores: Tensor, hidden: Tensor, row: Tensor, rows: int) -> Tensor:
    """Mean of each row's tokens, weighted by the softmax of their scores, `[tokens]`."""
    scores = scores.float()
    highest = scores.new_full((rows + 1,), -torch.inf)
    highest.scatter_reduce_(0, row, scores, "amax")
    weights = (scores - highest[row]).exp().unsqueeze(1)
    sums = weights.new_zeros(rows + 1, hidden.shape[1])
    sums.index_add_(0, row, weights * hidden.float())
    total = weights.new_zeros(rows + 1, 1).index_add_(0, row, weights)
    # The highest weight of a row is 1; rows without a token have none.
    return (sums / total.clamp(min=1))[:-1].to(hidden.dtype)
