"""The models of one study: each is fine-tuned once and leaves what its exits say on disk."""

import json
import random
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from offramp.model.checkpoint import load_checkpoint, save_checkpoint
from offramp.model.config import ModelConfig, Pooling
from offramp.model.pretrained import PretrainedEncoder, load_pretrained
from offramp.model.tokenizer import TextTokenizer
from offramp.training.batches import tokenize
from offramp.training.data import Dataset, Example, load_dataset
from offramp.training.evaluate import exit_logits
from offramp.training.finetune import finetune
from offramp.training.recipe import TrainingConfig
from offramp.training.run import Progress, Saving

DEV_ROWS = 1000
"""Of each source, for choosing the epoch."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a study may cost: rows of each part (0: all), tokens a text, epochs.

    `judged_tokens` is the limit of dev and test texts where it is not that of training.
    """

    train_rows: int
    dev_rows: int
    test_rows: int
    max_tokens: int
    epochs: int
    judged_tokens: int = 0

    @property
    def read_tokens(self) -> int:
        """Tokens of a dev or test text that are read."""
        return self.judged_tokens or self.max_tokens


@dataclass(frozen=True, slots=True)
class Spec:
    """A model to train: the encoder's first `layers`, exits after some of them, a recipe.

    With a teacher, another model of the study that must be trained by then, it goes on from that
    one's encoder.
    """

    name: str
    layers: int
    exit_layers: tuple[int, ...]
    training: TrainingConfig
    teacher: str | None = None
    pooling: Pooling = Pooling.MEAN


def load_part(directory: Path, part: str, rows: int) -> Dataset:
    """A file cut to a random sample, the same for all models; 0 rows are all of them."""
    whole = load_dataset(directory / f"{part}.jsonl.gz")
    chosen = random.Random(0).sample(
        whole.examples, min(rows or len(whole.examples), len(whole.examples))
    )
    return replace(whole, examples=tuple(chosen))


def load_parts(directory: Path, budget: Budget) -> dict[str, Dataset]:
    """Dev and test, as many rows of each as the budget has."""
    rows = {"dev": budget.dev_rows, "test": budget.test_rows}
    return {part: load_part(directory, part, count) for part, count in rows.items()}


def load_sources(data: Path, sources: tuple[str, ...], rows: int) -> tuple[Dataset, Dataset]:
    """What the models of a study are trained on, and the part of dev that chooses their epoch.

    Several sources are joined; their labels must be the same. Most texts of the MNLI train file
    have lost their full stops, so final stops are set and taken away there at random.
    """
    parts: dict[str, list[Dataset]] = {"train": [], "dev": []}
    for source in sources:
        train = load_part(data / source, "train", rows)
        if source == "mnli":
            train = replace(train, examples=_with_random_stops(train.examples))
        parts["train"].append(train)
        parts["dev"].append(load_part(data / source, "dev", DEV_ROWS))
    joined = {
        name: replace(found[0], examples=tuple(e for one in found for e in one.examples))
        for name, found in parts.items()
    }
    if len({one.labels for one in parts["train"]}) > 1:
        raise ValueError(f"{' and '.join(sources)} do not have the same labels")
    return joined["train"], joined["dev"]


def run(
    spec: Spec,
    pretrained: PretrainedEncoder,
    train: Dataset,
    dev: Dataset,
    max_tokens: int,
    directory: Path,
) -> None:
    """Train a model and write it to `SPEC/` and its story to `SPEC.json`, once."""
    record = directory / f"{spec.name}.json"
    if record.exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    start, teacher = pretrained, None
    if spec.teacher:
        start = load_pretrained(str(directory / spec.teacher))
        teacher = load_checkpoint(directory / spec.teacher).model
    cut = _cut(start, spec.layers)
    shape = ModelConfig(cut.config, train.labels, spec.exit_layers, spec.pooling, max_tokens)
    log: list[Progress] = []

    def report(progress: Progress) -> None:
        if progress.exit_accuracies is not None or progress.step % 50 == 0:
            print(f"  {spec.name} {progress.step}/{progress.steps} loss {progress.loss:.3f}")
        log.append(progress)

    started, before = time.monotonic(), _cpu_seconds()
    saving = Saving(directory / f"{spec.name}.state")
    checkpoint = finetune(
        cut, shape, train, dev, spec.training, report, teacher=teacher, saving=saving
    )
    seconds, cpu = time.monotonic() - started, _cpu_seconds() - before
    save_checkpoint(checkpoint, directory / spec.name)
    content = {
        **asdict(spec),
        "goes_on_from": spec.teacher,
        "parameters": sum(p.numel() for p in checkpoint.model.parameters()),
        "head_parameters": sum(p.numel() for p in checkpoint.model.heads.parameters()),
        "train_seconds": seconds,
        "train_cpu_seconds": cpu,
        "epochs": [asdict(progress) for progress in log if progress.exit_accuracies],
    }
    record.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    saving.path.unlink(missing_ok=True)


def logits_of(
    name: str, directory: Path, said: Path, parts: Mapping[str, Dataset], read_tokens: int
) -> None:
    """What a trained model's exits say of dev and test, in the file `NAME.pt` of `said`, once."""
    path = said / f"{name}.pt"
    if path.exists():
        return
    checkpoint = load_checkpoint(directory / name)
    tokenizer = TextTokenizer(checkpoint.tokenizer.definition, read_tokens)
    device = next(checkpoint.model.parameters()).device
    found = {
        part: exit_logits(checkpoint.model, tokenize(parts[part].examples, tokenizer), device)
        for part in ("dev", "test")
    }
    said.mkdir(parents=True, exist_ok=True)
    torch.save(found, path)


def lengths(pretrained: PretrainedEncoder, dataset: Dataset, max_tokens: int) -> Tensor:
    """Tokens of every example, float64 `[rows]`."""
    rows = tokenize(dataset.examples, TextTokenizer(pretrained.tokenizer, max_tokens))
    return torch.tensor([len(row.tokens) for row in rows], dtype=torch.float64)


def truth(dataset: Dataset) -> Tensor:
    """Labels of every example, int64 `[rows]`."""
    return torch.tensor([example.label for example in dataset.examples])


def _with_random_stops(examples: tuple[Example, ...]) -> tuple[Example, ...]:
    draw = random.Random(0)

    def stopped(text: str) -> str:
        bare = text.rstrip(" .")
        return f"{bare}." if draw.random() < 0.5 else bare

    return tuple(
        replace(
            example,
            text=stopped(example.text),
            text_pair=None if example.text_pair is None else stopped(example.text_pair),
        )
        for example in examples
    )


def _cut(pretrained: PretrainedEncoder, layers: int) -> PretrainedEncoder:
    """The encoder's embeddings and first layers."""
    gone = tuple(f"layers.{index}." for index in range(layers, pretrained.config.layers))
    weights = {
        name: weight for name, weight in pretrained.weights.items() if not name.startswith(gone)
    }
    return replace(pretrained, config=replace(pretrained.config, layers=layers), weights=weights)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
