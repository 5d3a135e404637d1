"""What the exits are trained on: labels, and optionally the last exit's own opinion."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

DISTILLATION_TEMPERATURE = 2.0


def exits_loss(logits: Sequence[Tensor], labels: Tensor, distillation: float) -> Tensor:
    """Sum of the exits' losses (Schwartz et al. 2020), with self-distillation mixed in.

    Every exit but the last gives the share `distillation` (0 to 1) of its loss to the divergence
    from the last exit's softened output, which receives no gradient from it (Liu et al.,
    FastBERT, ACL 2020). `logits` are `[rows, labels]` per exit, `labels` int64 `[rows]`.
    """
    last = logits[-1].float()
    total = functional.cross_entropy(last, labels)
    if len(logits) == 1:
        return total
    teacher = (last.detach() / DISTILLATION_TEMPERATURE).log_softmax(-1)
    for exit_logits in logits[:-1]:
        student = exit_logits.float()
        hard = functional.cross_entropy(student, labels)
        soft = functional.kl_div(
            (student / DISTILLATION_TEMPERATURE).log_softmax(-1),
            teacher,
            reduction="batchmean",
            log_target=True,
        )
        total = total + torch.lerp(hard, soft * DISTILLATION_TEMPERATURE**2, distillation)
    return total
