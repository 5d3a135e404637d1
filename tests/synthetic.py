"""Logits of a made-up model whose later exits know more, and which is too sure of itself."""

import torch
from torch import Tensor

EXIT_LAYERS = (1, 2, 4)


def logits_and_labels(rows: int, seed: int, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Logits `[3, rows, classes]` and labels `[rows]`: the same seed gives the same."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (rows,), generator=draw)
    truth = torch.nn.functional.one_hot(labels, classes).double()
    difficulty = torch.rand(rows, 1, generator=draw).double()
    noise = torch.randn(rows, classes, generator=draw).double()
    exits: list[Tensor] = []
    for knowledge in (1.5, 2.5, 3.5):
        own = torch.randn(rows, classes, generator=draw).double()
        signal = knowledge * (1.2 - difficulty) * truth + 0.8 * noise + 0.4 * own
        exits.append(3.0 * signal)
    return torch.stack(exits).float(), labels
