"""A checkpoint is a directory: `config.json`, `model.safetensors`, `tokenizer.json`, `exits.json`.

`exits.json` holds the temperatures and the trade-off table. Weights may be stored in half
precision; they are computed with in the type the caller asks for. Nothing is ever unpickled.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from offramp.model.calibration import Calibration
from offramp.model.config import ModelConfig
from offramp.model.directory import digest_of, name_of, stamps_of
from offramp.model.errors import CheckpointError
from offramp.model.exits import MultiExitModel
from offramp.model.tokenizer import TextTokenizer

FORMAT = "offramp.checkpoint"
VERSION = 1
HEADER = {"format", "version", "model"}
TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What weights may be stored as."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model ready to run, with all that serving needs to know of it.

    `digest` is that of the files it was loaded from, empty if it is as in none.
    """

    name: str
    config: ModelConfig
    model: MultiExitModel
    tokenizer: TextTokenizer
    calibration: Calibration
    digest: str = ""

    def with_calibration(self, calibration: Calibration) -> "Checkpoint":
        """The same model with other temperatures and table."""
        return replace(self, calibration=calibration, digest="")


def load_checkpoint(
    directory: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Checkpoint:
    """Load a checkpoint for inference; raises CheckpointError naming the file and the cause.

    A link is followed once, so that all files are of one checkpoint if it is moved meanwhile, and
    files that change while they are read are refused. Nothing is read from them later.
    """
    name, directory = name_of(directory), directory.resolve()
    if not directory.is_dir():
        raise CheckpointError(directory, "no such checkpoint directory")
    before = stamps_of(directory)
    config = _read_config(directory / "config.json")
    calibration = _read_calibration(directory / "exits.json", config)
    tokenizer = TextTokenizer.from_file(directory / "tokenizer.json", config.max_tokens)
    highest, types = tokenizer.reach(pair=bool(config.pairs))
    for kind, most, known in (
        ("ids", highest, config.encoder.vocab_size),
        ("token types", types, config.encoder.token_types or inf),
    ):
        if most >= known:
            found = f"has {kind} up to {most}, config.json has embeddings of {known}"
            raise CheckpointError(directory / "tokenizer.json", found)
    try:
        with torch.device("meta"):
            model = MultiExitModel(config)
    except (RuntimeError, OverflowError) as error:
        raise CheckpointError(
            directory / "config.json", f"is no possible model: {error}"
        ) from error
    weights = _read_weights(directory / "model.safetensors", model.state_dict())
    model.load_state_dict(
        {name: weight.to(device, dtype, copy=True) for name, weight in weights.items()},
        assign=True,
    )
    model.eval().requires_grad_(requires_grad=False)
    digest = digest_of(directory)
    if stamps_of(directory) != before:
        raise CheckpointError(
            directory, "changed while it was read; load it again once it is whole"
        )
    return Checkpoint(name, config, model, tokenizer, calibration, digest)


def save_checkpoint(
    checkpoint: Checkpoint, directory: Path, dtype: torch.dtype = torch.float16
) -> None:
    """Write the four files, creating the directory; weights are stored as `dtype`."""
    directory.mkdir(parents=True, exist_ok=True)
    header = {"format": FORMAT, "version": VERSION, "model": checkpoint.config.to_dict()}
    _write_json(directory / "config.json", header)
    (directory / "tokenizer.json").write_text(checkpoint.tokenizer.definition, encoding="utf-8")
    weights = {
        name: weight.detach().to("cpu", dtype).contiguous()
        for name, weight in checkpoint.model.state_dict().items()
    }
    # Not by `save_file`, whose file none but its owner may read.
    (directory / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
    save_calibration(checkpoint.calibration, directory)


def save_calibration(calibration: Calibration, directory: Path) -> None:
    """Write `exits.json` alone, as calibration does after training."""
    _write_json(directory / "exits.json", calibration.to_dict())


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file whole or not at all, where a link leads if it is one."""
    path = path.resolve()
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        if path.exists():
            shutil.copymode(path, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(path, "the file is missing; is this a checkpoint?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(path, f"not readable as JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(path, f"must hold a JSON object, not a {type(value).__name__}")
    return value


def _read_config(path: Path) -> ModelConfig:
    header = _read_json(path)
    if header.get("format") != FORMAT:
        raise CheckpointError(
            path, f"is not an offramp checkpoint (no format {FORMAT!r}); make one: `offramp train`"
        )
    if header.get("version") != VERSION:
        raise CheckpointError(
            path, f"has version {header.get('version')!r}; this offramp reads version {VERSION}"
        )
    if unknown := sorted(header.keys() - HEADER):
        raise CheckpointError(path, f"has unknown keys {unknown}; known are {sorted(HEADER)}")
    try:
        return ModelConfig.from_dict(header["model"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(path, f"is not a valid model: {error}") from error


def _read_calibration(path: Path, config: ModelConfig) -> Calibration:
    try:
        calibration = Calibration.from_dict(_read_json(path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(path, f"is not a valid calibration: {error!r}") from error
    if len(calibration.temperatures) != config.exits:
        raise CheckpointError(
            path, f"has {len(calibration.temperatures)} temperatures for {config.exits} exits"
        )
    return calibration


def _read_weights(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    try:
        weights = load_file(path)
    except FileNotFoundError:  # what it may not read, it does not find
        missing = "not readable" if path.exists() else "the weights are missing"
        raise CheckpointError(path, missing) from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(path, f"not readable as safetensors: {error}") from error
    if lacking := sorted(expected.keys() - weights.keys()):
        raise CheckpointError(path, f"lacks {len(lacking)} weights, the first is {lacking[0]}")
    if foreign := sorted(weights.keys() - expected.keys()):
        raise CheckpointError(path, f"has {len(foreign)} foreign weights, the first {foreign[0]}")
    for name, weight in weights.items():
        if weight.shape != expected[name].shape:
            shapes = f"{tuple(weight.shape)}, config.json says {tuple(expected[name].shape)}"
            raise CheckpointError(path, f"weight {name} has shape {shapes}")
        if weight.dtype not in TYPES:
            raise CheckpointError(path, f"weight {name} is of {weight.dtype}, which is not read")
        if not weight.isfinite().all():
            raise CheckpointError(path, f"weight {name} holds infinite or undefined numbers")
    return weights
