"""A training run at one step, on disk: killed at any moment it goes on to the same result.

The file holds tensors and plain numbers alone and is replaced whole, so a run that dies while
writing leaves the one before. A fingerprint of data and settings tells another run's file.
"""

import hashlib
import json
import pickle
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch

from offramp.model.errors import ModelError
from offramp.model.exits import MultiExitModel
from offramp.training.batches import Row
from offramp.training.recipe import TrainingConfig


class InterruptedRunError(Exception):
    """The run was asked to stop; its state is saved."""


class ResumeError(ModelError):
    """An interrupted run that cannot go on; says what to do."""


@dataclass(slots=True)
class Position:
    """Where a run is: epoch and steps done (in it, and in all), and the best epoch so far."""

    epoch: int = 0
    epoch_step: int = 0
    step: int = 0
    loss: float = 0.0
    best_score: float = -1.0
    best_epoch: int = -1
    seconds: float = 0.0


def generators() -> dict[str, Any]:
    """The states of torch's random generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_generators(states: Mapping[str, Any]) -> None:
    """Put torch's random generators back to what `generators` gave."""
    torch.set_rng_state(states["cpu"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])


def shuffler(seed: int, epoch: int) -> random.Random:
    """What shuffles an epoch: the same batches whenever it is begun again."""
    return random.Random(f"{seed} {epoch}")


def fingerprint(
    config: TrainingConfig,
    rows: Sequence[Row],
    dev_rows: Sequence[Row],
    model: MultiExitModel,
    teacher: MultiExitModel | None,
) -> str:
    """Tells runs apart by all that their results depend on, from the model as it starts.

    The teacher counts by its weights: its answers may differ in a last bit where threads do.
    """
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())
    for row in (*rows, *dev_rows):
        digest.update(repr((tuple(row.tokens.ids), row.label)).encode())
    for one in (model, teacher):
        digest.update(b"none" if one is None else _digest_of(one))
    return digest.hexdigest()


def _digest_of(model: MultiExitModel) -> bytes:
    digest = hashlib.sha256(json.dumps(model.config.to_dict(), sort_keys=True).encode())
    for name, weight in model.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.cpu().numpy().tobytes())
    return digest.digest()


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Everything a run needs to go on; the values of `parts` are state dicts."""

    fingerprint: str
    position: Position
    parts: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write it whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        content = {
            "fingerprint": self.fingerprint,
            "position": asdict(self.position),
            "parts": self.parts,
        }
        try:
            torch.save(content, unfinished)
            unfinished.replace(path)
        except RuntimeError as error:  # torch's for a file that it cannot write on
            raise OSError(f"cannot write {path}: {error}; is the disk full?") from error
        finally:
            unfinished.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path, expected: str) -> Self:
        """Read it; raises ResumeError if it is damaged or another run's."""
        try:
            content = torch.load(path, weights_only=True)
            state = cls(content["fingerprint"], Position(**content["position"]), content["parts"])
        except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as e:
            raise ResumeError(f"{path}: not readable: {e}; remove it to start anew") from e
        if state.fingerprint != expected:
            raise ResumeError(
                f"{path}: is of a run with other data or settings; give the same ones, or remove"
                " it to start anew"
            )
        return state
