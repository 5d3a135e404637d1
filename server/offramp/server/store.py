"""What the stages run so far left behind for each admitted request, by slot."""

from collections.abc import Sequence

import torch
from torch import Tensor


class ViewStore:
    """Keeps each row as a view of the step's output that made it, without copying.

    The next step lays its rows end to end, which is the only copy; rows that go on together, as a
    lone request does, are not copied at all. Fit for a CPU, where memory is cheap to hold: a
    step's output is freed when the slots of all its rows were written again or dropped, which for a
    row that left early is when the next request has its slot.
    """

    def __init__(self, slots: int) -> None:
        self._hidden: list[Tensor | None] = [None] * slots
        self._pooled: list[Tensor | None] = [None] * slots

    def put(
        self, slots: Sequence[int], lengths: Sequence[int], hidden: Tensor, pooled: Tensor
    ) -> None:
        """Keep `[tokens, hidden]` and `[rows, layers, hidden]` of rows of these lengths."""
        if len(slots) == 1:
            self._hidden[slots[0]], self._pooled[slots[0]] = hidden, pooled
            return
        rows = torch.split_with_sizes(hidden, list(lengths))
        for slot, own_hidden, own_pooled in zip(
            slots, rows, pooled.unsqueeze(1).unbind(), strict=True
        ):
            self._hidden[slot] = own_hidden
            self._pooled[slot] = own_pooled

    def get(self, slots: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The rows of these slots, laid end to end in this order."""
        hidden = [part for slot in slots if (part := self._hidden[slot]) is not None]
        pooled = [part for slot in slots if (part := self._pooled[slot]) is not None]
        if len(slots) == 1:
            return hidden[0], pooled[0]
        return torch.cat(hidden), torch.cat(pooled)

    def drop(self, slots: Sequence[int]) -> None:
        """Forget rows that went no further."""
        for slot in slots:
            self._hidden[slot] = self._pooled[slot] = None
