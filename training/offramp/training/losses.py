"""What the exits are trained on: labels, and the opinion of the last exit or of a teacher."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from offramp.training.data import UNLABELLED

DISTILLATION_TEMPERATURE = 2.0


def exits_loss(
    logits: Sequence[Tensor], labels: Tensor, distillation: float, teacher: Tensor | None = None
) -> Tensor:
    """Sum of the exits' losses (Schwartz et al. 2020), with distillation mixed in.

    Without a teacher the last exit teaches the others and receives no gradient from it (Liu et
    al., FastBERT, ACL 2020); it learns from labels alone. A teacher's logits `[rows, labels]`
    teach every exit. An exit gives the share `distillation` (0 to 1) of its loss to the divergence
    from the teacher's softened output (Hinton et al. 2015), and all of it for a row without a
    label. `logits` are `[rows, labels]` per exit, `labels` int64 `[rows]`.
    """
    labelled = labels != UNLABELLED
    shares = torch.where(labelled, distillation, 1.0)
    own = logits[-1].detach() if teacher is None else teacher
    target = (own.float() / DISTILLATION_TEMPERATURE).log_softmax(-1)
    total = torch.zeros((), device=labels.device)
    for index, exit_logits in enumerate(logits):
        student = exit_logits.float()
        hard = functional.cross_entropy(student, labels, ignore_index=UNLABELLED, reduction="none")
        if teacher is None and index == len(logits) - 1:
            return total + hard.mean()
        softened = (student / DISTILLATION_TEMPERATURE).log_softmax(-1)
        soft = functional.kl_div(softened, target, reduction="none", log_target=True).sum(-1)
        total = total + torch.lerp(hard, soft * DISTILLATION_TEMPERATURE**2, shares).mean()
    return total
