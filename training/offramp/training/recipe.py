"""Recipes and hyper-parameters: which exits are trained when, and how.

- `joint`: every exit from the first step (Schwartz et al., ACL 2020).
- `mixed`: the last exit alone first, then all of them (Kubaty et al., ICML 2025), which spares
  full depth from the early exits' conflicting gradients.
- `alternating`: the last exit alone and all of them, step by step in turn (Xin et al., BERxiT,
  EACL 2021).

Self-distillation, gradient equilibrium and separation go with each.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

RATES = (
    "learning_rate",
    "head_learning_rate",
    "mix_learning_rate",
    "query_learning_rate",
    "weight_decay",
)


class Recipe(StrEnum):
    """Which exits are trained when."""

    JOINT = "joint"
    MIXED = "mixed"
    ALTERNATING = "alternating"


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Hyper-parameters; learning rates are peaks of a linear warm-up and decay.

    What is evaluated and kept is the moving average of the weights over the steps, which each step
    keeps by the share `averaging` (Izmailov et al., UAI 2018, on why averages generalise; 0 is
    none). After n steps it keeps (1 + n) / (10 + n) at most, so that it forgets how it began also
    in a short run. `distillation` is the share (0 to 1) of self-distillation in the early exits'
    losses, `equilibrium` whether exits share a layer's gradient evenly, `separation` the share (0
    to 1) of later exits' gradients that an exit keeps from the layers below it (see
    `staged_logits`), and `last_exit_epochs` how many of the epochs `mixed` spends on the last exit
    alone. Training stops after `patience` epochs in a row without a better one (0: never). Rates
    stay constant after the warm-up unless `decay`. Products are computed in `bfloat16` if it is
    set, and if it is not told (None) on a GPU.
    """

    recipe: Recipe = Recipe.MIXED
    epochs: int = 4
    last_exit_epochs: int = 1
    batch_rows: int = 64
    learning_rate: float = 5e-5
    head_learning_rate: float = 1e-3
    mix_learning_rate: float = 1e-2
    query_learning_rate: float = 3e-3
    weight_decay: float = 0.01
    warmup_share: float = 0.06
    decay: bool = True
    dropout: float = 0.1
    distillation: float = 0.5
    equilibrium: bool = False
    separation: float = 0.0
    gradient_norm: float = 1.0
    averaging: float = 0.999
    patience: int = 0
    bfloat16: bool | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in RATES:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more and finite, not {getattr(self, name)}")
        if not 0 < self.gradient_norm < math.inf:
            raise ValueError(f"gradient_norm must be above 0 and finite, not {self.gradient_norm}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, not {self.dropout}")
        if self.patience < 0:
            raise ValueError(f"patience must be 0 or more, not {self.patience}")
        if not -(2**63) <= self.seed < 2**63:
            raise ValueError(f"seed must fit 64 bits, not {self.seed}")
        for name in ("distillation", "separation", "warmup_share", "averaging"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in 0 to 1, not {getattr(self, name)}")
        if self.recipe is Recipe.MIXED and not 0 <= self.last_exit_epochs < self.epochs:
            raise ValueError(
                f"mixed trains the last exit alone for fewer than all {self.epochs} epochs,"
                f" not {self.last_exit_epochs}: train for more, or by another recipe, as joint"
            )

    def trains_early_exits(self, epoch: int) -> bool:
        """Whether any step of this epoch (from 0) trains all exits."""
        return self.recipe is not Recipe.MIXED or epoch >= self.last_exit_epochs

    def last_exit_alone(self, epoch: int, step: int) -> bool:
        """Whether this step (both from 0) trains the last exit alone."""
        match self.recipe:
            case Recipe.JOINT:
                return False
            case Recipe.MIXED:
                return not self.trains_early_exits(epoch)
            case Recipe.ALTERNATING:
                return step % 2 == 0


PAPER = TrainingConfig(
    recipe=Recipe.JOINT,
    epochs=2,
    batch_rows=72,
    learning_rate=2e-5,
    head_learning_rate=2e-5,
    mix_learning_rate=2e-5,
    query_learning_rate=2e-5,
    weight_decay=0.0,
    warmup_share=0.0,
    decay=False,
    distillation=0.0,
    averaging=0.0,
)
"""Schwartz et al. 2020: plain Adam, no warm-up, the plain sum of the exits' losses."""
