"""Bootstrap intervals of means over rows (Efron 1979), paired: every mean sees the same draws."""

import torch
from torch import Tensor

DRAWS = 1000
LEVELS = (0.025, 0.975)

Interval = tuple[float, float]


def draws_of(rows: int, seed: int = 0) -> Tensor:
    """How often each row is drawn in each of 1,000 samples of its size: float32 `[rows, draws]`."""
    draw = torch.Generator().manual_seed(seed)
    counts = torch.zeros(rows, DRAWS)
    for column in range(DRAWS):
        drawn = torch.randint(rows, (rows,), generator=draw)
        counts[:, column] = torch.bincount(drawn, minlength=rows)
    return counts


def intervals(values: Tensor, draws: Tensor) -> list[Interval]:
    """95 % intervals of the means of `[cases, rows]`, one a case."""
    means = values.float() @ draws / len(draws)
    low, high = means.quantile(torch.tensor(LEVELS), dim=1).tolist()
    return list(zip(low, high, strict=True))
