"""The models of one experiment: each is fine-tuned once and leaves what its exits say on disk."""

import json
import random
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from offramp.model.config import ModelConfig, Pooling
from offramp.model.pretrained import PretrainedEncoder
from offramp.model.tokenizer import TextTokenizer
from offramp.training.batches import tokenize
from offramp.training.data import Dataset, load_dataset
from offramp.training.evaluate import exit_logits
from offramp.training.finetune import Progress, Saving, finetune
from offramp.training.recipe import TrainingConfig

PARTS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class Budget:
    """What an experiment may cost: rows of each part (0: all), tokens a text, epochs."""

    train_rows: int
    dev_rows: int
    test_rows: int
    max_tokens: int
    epochs: int


@dataclass(frozen=True, slots=True)
class Spec:
    """A model to train: the encoder's first `layers`, exits after some of them, a recipe."""

    name: str
    layers: int
    exit_layers: tuple[int, ...]
    training: TrainingConfig


def load_parts(directory: Path, budget: Budget) -> dict[str, Dataset]:
    """Train, dev and test, each cut to a random sample of its budget, the same for all models."""
    parts: dict[str, Dataset] = {}
    for part in PARTS:
        whole = load_dataset(directory / f"{part}.jsonl.gz")
        rows = getattr(budget, f"{part}_rows") or len(whole.examples)
        chosen = random.Random(0).sample(whole.examples, min(rows, len(whole.examples)))
        parts[part] = replace(whole, examples=tuple(chosen))
    return parts


def run(
    spec: Spec,
    pretrained: PretrainedEncoder,
    parts: dict[str, Dataset],
    max_tokens: int,
    directory: Path,
) -> None:
    """Train a model and write `SPEC.json` and `SPEC.pt`; nothing is done if they are there."""
    record = directory / f"{spec.name}.json"
    if record.exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    cut = _cut(pretrained, spec.layers)
    shape = ModelConfig(
        cut.config, parts["train"].labels, spec.exit_layers, Pooling.MEAN, max_tokens
    )
    log: list[Progress] = []

    def report(progress: Progress) -> None:
        if progress.exit_accuracies is not None or progress.step % 50 == 0:
            print(f"  {spec.name} {progress.step}/{progress.steps} loss {progress.loss:.3f}")
        log.append(progress)

    started, before = time.monotonic(), _cpu_seconds()
    saving = Saving(directory / f"{spec.name}.state")
    checkpoint = finetune(
        cut, shape, parts["train"], parts["dev"], spec.training, report, saving=saving
    )
    seconds, cpu = time.monotonic() - started, _cpu_seconds() - before
    logits = {
        part: _logits(checkpoint.tokenizer, checkpoint.model, parts[part])
        for part in ("dev", "test")
    }
    torch.save(logits, directory / f"{spec.name}.pt")
    heads = sum(p.numel() for p in checkpoint.model.heads.parameters())
    content = {
        **asdict(spec),
        "parameters": sum(p.numel() for p in checkpoint.model.parameters()),
        "head_parameters": heads,
        "train_seconds": seconds,
        "train_cpu_seconds": cpu,
        "epochs": [asdict(progress) for progress in log if progress.exit_accuracies],
    }
    record.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    saving.path.unlink(missing_ok=True)


def lengths(pretrained: PretrainedEncoder, dataset: Dataset, max_tokens: int) -> Tensor:
    """Tokens of every example, float64 `[rows]`."""
    rows = tokenize(dataset.examples, TextTokenizer(pretrained.tokenizer, max_tokens))
    return torch.tensor([len(row.tokens) for row in rows], dtype=torch.float64)


def truth(dataset: Dataset) -> Tensor:
    """Labels of every example, int64 `[rows]`."""
    return torch.tensor([example.label for example in dataset.examples])


def _logits(tokenizer: TextTokenizer, model: torch.nn.Module, dataset: Dataset) -> Tensor:
    device = next(model.parameters()).device
    return exit_logits(model, tokenize(dataset.examples, tokenizer), device)  # type: ignore[arg-type]


def _cut(pretrained: PretrainedEncoder, layers: int) -> PretrainedEncoder:
    """The encoder's embeddings and first layers."""
    gone: Sequence[str] = [f"layers.{index}." for index in range(layers, pretrained.config.layers)]
    weights = {
        name: weight
        for name, weight in pretrained.weights.items()
        if not name.startswith(tuple(gone))
    }
    return replace(pretrained, config=replace(pretrained.config, layers=layers), weights=weights)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
