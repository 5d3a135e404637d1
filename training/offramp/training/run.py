"""One training run: its loop, what it keeps of the best epoch, and its saved state."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from offramp.model.exits import MultiExitModel
from offramp.training.batches import Row, collate, shuffled_batches
from offramp.training.divergence import finite_loss
from offramp.training.evaluate import exit_accuracies, exit_logits
from offramp.training.losses import exits_loss
from offramp.training.optimisation import (
    autocast,
    averaging_step,
    optimizer_of,
    schedule_of,
    staged_logits,
)
from offramp.training.recipe import TrainingConfig
from offramp.training.state import (
    InterruptedRunError,
    Position,
    TrainingState,
    generators,
    set_generators,
    shuffler,
)

REPORT_STEPS = 10
SMOOTHING = 0.02
"""The share of a step's loss in the running loss that is reported."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training run is; `exit_accuracies` on dev only at the end of an epoch."""

    epoch: int
    step: int
    steps: int
    loss: float
    seconds: float
    exit_accuracies: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Saving:
    """Where an unfinished run is kept, and every how many seconds (and at the end of epochs)."""

    path: Path
    seconds: float = 120.0

    def __post_init__(self) -> None:
        if not self.seconds >= 0:
            raise ValueError(f"save_seconds must be 0 or more, not {self.seconds}")


class TrainingRun:
    """The loop of one run and all that changes in it."""

    def __init__(
        self,
        model: MultiExitModel,
        config: TrainingConfig,
        rows: Sequence[Row],
        dev_rows: Sequence[Row],
        taught: Tensor | None,
        device: torch.device,
        saving: Saving | None,
        interrupted: Callable[[], bool],
        identity: str,
    ) -> None:
        self._model, self._config, self._device = model, config, device
        self._rows, self._dev_rows, self._taught = rows, dev_rows, taught
        self._saving, self._interrupted = saving, interrupted
        self._steps = config.epochs * -(-len(rows) // config.batch_rows)
        self._optimizer = optimizer_of(model, config)
        self._schedule = schedule_of(self._optimizer, self._steps, config)
        self._average = AveragedModel(model, multi_avg_fn=averaging_step(config.averaging))
        self.best = _copied(self._averaged.state_dict())
        self._at = Position()
        self._started = self._saved = time.monotonic()
        self._fingerprint = identity
        if saving is not None and saving.path.exists():
            self._restore(TrainingState.load(saving.path, self._fingerprint))

    def epochs(self) -> Iterator[Progress]:
        """Train on, telling of steps and epochs; raises InterruptedRunError, DivergedRunError."""
        while self._at.epoch < self._config.epochs and not self._tired():
            draw = shuffler(self._config.seed, self._at.epoch)
            batches = shuffled_batches(self._rows, self._config.batch_rows, draw)
            self._model.train()
            for batch in batches[self._at.epoch_step :]:
                self._step(batch)
                if self._at.step % REPORT_STEPS == 0:
                    yield self._progress(None)
                self._save_if_due()
            accuracies = self._judge()
            yield self._progress(accuracies)
            self._at.epoch += 1
            self._at.epoch_step = 0
            self._save()

    @property
    def _averaged(self) -> MultiExitModel:
        return cast("MultiExitModel", self._average.module)

    def _tired(self) -> bool:
        """Whether `patience` epochs in a row, of those that train all exits, were no better."""
        patience, best = self._config.patience, self._at.best_epoch
        since = self._at.epoch - 1 - best
        return 0 < patience <= since and self._config.trains_early_exits(best)

    def _step(self, batch: Sequence[Row]) -> None:
        config, at = self._config, self._at
        packed, labels = collate(batch, self._device)
        alone = config.last_exit_alone(at.epoch, at.step)
        with autocast(self._device, config):
            logits = (
                self._model(packed)[-1:] if alone else staged_logits(self._model, packed, config)
            )
        teaching = None
        if self._taught is not None:
            teaching = self._taught[[row.index for row in batch]].to(self._device)
        loss = exits_loss(logits, labels, config.distillation, teaching)
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self._model.parameters(), config.gradient_norm)
        self._optimizer.step()
        self._schedule.step()
        self._average.update_parameters(self._model)
        self._optimizer.zero_grad()
        at.step += 1
        at.epoch_step += 1
        found = finite_loss(loss, norm, at.step)
        at.loss = found if at.step == 1 else at.loss + SMOOTHING * (found - at.loss)

    def _judge(self) -> tuple[float, ...]:
        """Accuracy of each exit on dev; the best epoch's weights are kept.

        The first epoch that trains all exits is better than all that do not.
        """
        self._average.eval()
        logits = exit_logits(self._averaged, self._dev_rows, self._device)
        accuracies = exit_accuracies(logits, torch.tensor([row.label for row in self._dev_rows]))
        *early, last = accuracies
        score = last + sum(early) / max(len(early), 1)
        at, trains_all = self._at, self._config.trains_early_exits
        if score > at.best_score or trains_all(at.epoch) > trains_all(at.best_epoch):
            at.best_score, at.best_epoch = score, at.epoch
            self.best = _copied(self._averaged.state_dict())
        return tuple(accuracies)

    def _progress(self, accuracies: tuple[float, ...] | None) -> Progress:
        at = self._at
        seconds = at.seconds + time.monotonic() - self._started
        return Progress(at.epoch, at.step, self._steps, at.loss, seconds, accuracies)

    def _save_if_due(self) -> None:
        stopping = self._interrupted()
        due = self._saving and time.monotonic() - self._saved >= self._saving.seconds
        if stopping or due:
            self._save()
        if stopping:
            raise InterruptedRunError

    def _save(self) -> None:
        now = time.monotonic()
        self._at.seconds += now - self._started
        self._started = self._saved = now
        if self._saving is None:
            return
        parts: dict[str, Any] = {
            "model": self._model.state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.last_epoch,
            "best": self.best,
            "generators": generators(),
        }
        TrainingState(self._fingerprint, self._at, parts).save(self._saving.path)

    def _restore(self, state: TrainingState) -> None:
        self._at = state.position
        self._model.load_state_dict(state.parts["model"])
        self._average.load_state_dict(state.parts["average"])
        self._optimizer.load_state_dict(state.parts["optimizer"])
        self._schedule.last_epoch = state.parts["schedule"]
        self.best = {name: at.to(self._device) for name, at in state.parts["best"].items()}
        set_generators(state.parts["generators"])


def _copied(weights: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in weights.items()}
