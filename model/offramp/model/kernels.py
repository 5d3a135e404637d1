"""Triton kernels of a stage: what PyTorch would run as many small ones, or on padded blocks.

Each takes packed rows: `[tokens, ...]` with the rows' bounds. Numbers are summed in float32
whatever type they are kept in. `FusedStages` calls them and says why each is there.
"""

# Triton reads this language itself: its pointers and numbers have no types in Python.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# pyright: basic, reportGeneralTypeIssues=false

import triton
import triton.language as tl


@triton.jit
def lay_out(
    slots,
    lengths,
    bounds,
    stored,
    positions,
    rows,
    tokens,
    spare,
    longest,
    ROWS: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """Where tokens lie: the rows' bounds, each token's place in the store and in its row.

    A program does `TOKENS` tokens, the last one fewer where they don't divide. Those of no row get
    places in the spare slot.
    """
    index = tl.arange(0, ROWS)
    ends = tl.cumsum(tl.load(lengths + index, mask=index < rows, other=0), 0)
    if tl.program_id(0) == 0:
        tl.store(bounds, 0)
        tl.store(bounds + 1 + index, ends, mask=index < rows)
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    past = ends[None, :] <= token[:, None]
    row = tl.sum(past.to(tl.int32), 1)
    start = tl.max(tl.where(past, ends[None, :], 0), 1)
    position = tl.minimum(token - start, longest - 1)
    slot = tl.load(slots + row, mask=row < rows, other=spare)
    inside = token < tokens
    tl.store(positions + token, position, mask=inside)
    tl.store(stored + token, slot.to(tl.int64) * longest + position, mask=inside)


@triton.jit
def embed(
    ids,
    types,
    positions,
    word,
    position,
    kind,
    weight,
    shift,
    out,
    offset,
    size,
    epsilon,
    WIDTH: tl.constexpr,
    TYPED: tl.constexpr,
):
    """A token's embeddings, summed and normalised; a program does one token."""
    token = tl.program_id(0)
    columns = tl.arange(0, WIDTH)
    inside = columns < size
    own = tl.load(ids + token).to(tl.int64) * size
    hidden = tl.load(word + own + columns, mask=inside, other=0.0).to(tl.float32)
    at = (tl.load(positions + token) + offset) * size
    hidden += tl.load(position + at + columns, mask=inside, other=0.0).to(tl.float32)
    if TYPED:
        at = tl.load(types + token) * size
        hidden += tl.load(kind + at + columns, mask=inside, other=0.0).to(tl.float32)
    _normalise(hidden, weight, shift, out + token * size, size, epsilon, columns, inside)


@triton.jit
def add_norm(
    hidden,
    residual,
    weight,
    shift,
    out,
    places,
    size,
    epsilon,
    WIDTH: tl.constexpr,
    PLACED: tl.constexpr,
):
    """Layer norm of a sum; a program does one token and puts it into its place, if it has one."""
    token = tl.program_id(0)
    columns = tl.arange(0, WIDTH)
    inside = columns < size
    at = token * size + columns
    both = tl.load(hidden + at, mask=inside, other=0.0).to(tl.float32)
    both += tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)
    place = tl.load(places + token) if PLACED else token
    _normalise(both, weight, shift, out + place * size, size, epsilon, columns, inside)


@triton.jit
def _normalise(hidden, weight, shift, out, size, epsilon, columns, inside):
    mean = tl.sum(hidden, 0) / size
    centred = tl.where(inside, hidden - mean, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 0) / size + epsilon)
    scaled = centred * scale * tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    scaled += tl.load(shift + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + columns, scaled.to(out.dtype.element_ty), mask=inside)


@triton.jit
def attend(
    qkv,
    out,
    bounds,
    scale,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    TILE: tl.constexpr,
    PARTS: tl.constexpr,
):
    """Attention of one row and head, `TILE` queries at a time; `PARTS` programs share a long row.

    `qkv` is `[tokens, 3, heads, size]`. Softmax is taken as the keys go by (Milakov and Gimelshein,
    "Online normalizer calculation for softmax", 2018).
    """
    row, head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    start, end = tl.load(bounds + row), tl.load(bounds + row + 1)
    columns = head * SIZE + tl.arange(0, SIZE)
    step: tl.constexpr = 3 * HEADS * SIZE
    for first in range(start + part * TILE, end, PARTS * TILE):
        queries = first + tl.arange(0, TILE)
        asked = (queries < end)[:, None]
        query = tl.load(qkv + queries[:, None] * step + columns[None, :], mask=asked, other=0.0)
        highest = tl.full([TILE], float("-inf"), tl.float32)
        total = tl.zeros([TILE], tl.float32)
        context = tl.zeros([TILE, SIZE], tl.float32)
        for other in range(start, end, TILE):
            keys = other + tl.arange(0, TILE)
            there = keys < end
            at = qkv + HEADS * SIZE + keys[None, :] * step + columns[:, None]
            key = tl.load(at, mask=there[None, :], other=0.0)
            scores = tl.dot(query, key, input_precision="ieee") * scale
            scores = tl.where(there[None, :], scores, float("-inf"))
            higher = tl.maximum(highest, tl.max(scores, 1))
            weights = tl.exp2(scores - higher[:, None])
            shrunk = tl.exp2(highest - higher)
            at = qkv + 2 * HEADS * SIZE + keys[:, None] * step + columns[None, :]
            value = tl.load(at, mask=there[:, None], other=0.0)
            seen = tl.dot(weights.to(value.dtype), value, input_precision="ieee")
            context = context * shrunk[:, None] + seen
            total = total * shrunk + tl.sum(weights, 1)
            highest = higher
        context = context / total[:, None]
        at = out + queries[:, None] * (HEADS * SIZE) + columns[None, :]
        tl.store(at, context.to(out.dtype.element_ty), mask=asked)


@triton.jit
def pool(
    hidden,
    bounds,
    slots,
    pooled,
    stride,
    size,
    longest,
    TILE: tl.constexpr,
    WIDTH: tl.constexpr,
    STORED: tl.constexpr,
):
    """Mean of a row's tokens into its slot of `pooled`; a program does `WIDTH` columns of a row."""
    row = tl.program_id(0)
    start, end = tl.load(bounds + row), tl.load(bounds + row + 1)
    if start < end:
        slot = tl.load(slots + row).to(tl.int64)
        columns = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
        inside = (columns < size)[None, :]
        first = slot * longest if STORED else start.to(tl.int64)
        total = tl.zeros([WIDTH], tl.float32)
        for at in range(0, end - start, TILE):
            tokens = at + tl.arange(0, TILE)
            there = (tokens < end - start)[:, None] & inside
            address = hidden + (first + tokens[:, None]) * size + columns[None, :]
            total += tl.sum(tl.load(address, mask=there, other=0.0).to(tl.float32), 0)
        mean = (total / (end - start)).to(pooled.dtype.element_ty)
        tl.store(pooled + slot * stride + columns, mean, mask=columns < size)


@triton.jit
def pool_attending(
    hidden,
    bounds,
    slots,
    query,
    pooled,
    stride,
    size,
    longest,
    TILE: tl.constexpr,
    WIDTH: tl.constexpr,
    STORED: tl.constexpr,
):
    """As `pool`, weighted by the softmax of the tokens' products with a query; a program a row."""
    row = tl.program_id(0)
    start, end = tl.load(bounds + row), tl.load(bounds + row + 1)
    if start < end:
        slot = tl.load(slots + row).to(tl.int64)
        columns = tl.arange(0, WIDTH)
        inside = columns < size
        asked = tl.load(query + columns, mask=inside, other=0.0).to(tl.float32)
        first = slot * longest if STORED else start.to(tl.int64)
        # Numbers as vectors of one, which Triton keeps of one type from pass to pass.
        highest = tl.full([1], float("-inf"), tl.float32)
        total = tl.zeros([1], tl.float32)
        mean = tl.zeros([WIDTH], tl.float32)
        for at in range(0, end - start, TILE):
            tokens = at + tl.arange(0, TILE)
            there = tokens < end - start
            address = hidden + (first + tokens[:, None]) * size + columns[None, :]
            mask = there[:, None] & inside[None, :]
            part = tl.load(address, mask=mask, other=0.0).to(tl.float32)
            scores = tl.where(there, tl.sum(part * asked[None, :], 1), float("-inf"))
            higher = tl.maximum(highest, tl.max(scores, 0))
            weights = tl.exp(scores - higher)
            shrunk = tl.exp(highest - higher)
            mean = mean * shrunk + tl.sum(part * weights[:, None], 0)
            total = total * shrunk + tl.sum(weights, 0)
            highest = higher
        mean = (mean / total).to(pooled.dtype.element_ty)
        tl.store(pooled + slot * stride + columns, mean, mask=inside)


@triton.jit
def read(
    pooled,
    slots,
    mix,
    weight,
    bias,
    out,
    stride,
    size,
    cold,
    power,
    exponent,
    highest,
    labels,
    LAYERS: tl.constexpr,
    LABELS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """An exit's label, score and probabilities of one row; `cold` is one over its temperature.

    The score is that of `max_prob`: the highest probability at another temperature, by `power`,
    to an `exponent`, and at most `highest` (`offramp.model.rules`).
    """
    row = tl.program_id(0)
    slot = tl.load(slots + row).to(tl.int64)
    label = tl.arange(0, LABELS)
    known = label < labels
    logits = tl.load(bias + label, mask=known, other=float("-inf"))
    for first in range(0, size, WIDTH):
        columns = first + tl.arange(0, WIDTH)
        inside = columns < size
        mixed = tl.zeros([WIDTH], tl.float32)
        for layer in tl.static_range(LAYERS):
            at = pooled + slot * stride + layer * size + columns
            mixed += tl.load(mix + layer) * tl.load(at, mask=inside, other=0.0).to(tl.float32)
        rows = weight + label[:, None] * size + columns[None, :]
        weights = tl.load(rows, mask=known[:, None] & inside[None, :], other=0.0)
        logits += tl.sum(weights * mixed[None, :], 1)
    logits *= cold
    logits -= tl.max(logits, 0)
    raised = tl.exp(logits)
    score = tl.exp(-exponent * tl.log(tl.sum(tl.exp(logits * power), 0)))
    out += row * (labels + 2)
    tl.store(out, tl.argmax(logits, 0).to(tl.float32))
    # Written so that an undefined score stays one.
    tl.store(out + 1, tl.where(score > highest, highest, score))
    tl.store(out + 2 + label, raised / tl.sum(raised, 0), mask=known)
