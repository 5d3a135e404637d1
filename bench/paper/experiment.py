"""The experiments of Schwartz et al. 2020 on a 6-layer encoder, a dataset or all of them.

python bench/paper/experiment.py sst2 --data DIRECTORY --encoder DIRECTORY
python bench/paper/experiment.py all --data DIRECTORY --encoder DIRECTORY

For each: the encoder with all exits, the encoder plainly fine-tuned, and the encoder cut after
some layers, all on the same rows with the same settings; `taught` goes on from the plain one with
settings of its own. Models that are there are not trained again, so a stopped run goes on, and
`--models` names those to train in this call; the result holds what there is. Rows, tokens and
epochs are budgeted; what was really used is in the result.
`python bench/paper/page.py` makes docs/paper.md of the results.
"""

import argparse
import json
import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from figures import analyse
from steps import step_ratio
from trained import Budget, Spec, load_parts, load_sources, logits_of, run

from offramp.model.config import Pooling
from offramp.model.pretrained import PretrainedEncoder, load_pretrained
from offramp.training.recipe import Recipe, TrainingConfig

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "sst2-minilm"


@dataclass(frozen=True, slots=True)
class Study:
    """What the models of a dataset are trained on, at what rate, and from which encoder.

    Without an encoder of its own a study starts from the one on the command line. `separation`
    and `taught_epochs` are those of `taught`; without the latter it goes on for as many again.
    """

    sources: tuple[str, ...]
    budget: Budget
    learning_rate: float
    encoder: Path | None = None
    separation: float = 0.4
    taught_epochs: int = 0


NLI = ("snli", "mnli")
STUDIES = {
    "sst2": Study(("sst2",), Budget(0, 0, 0, 128, 2), 7e-5),
    "ag_news": Study(("ag_news",), Budget(0, 3000, 0, 96, 2), 7e-5, separation=0.2),
    "imdb": Study(("imdb",), Budget(8000, 2500, 2500, 256, 1, 512), 5e-5, SHIPPED, 0.3),
    "snli": Study(NLI, Budget(0, 3000, 0, 64, 2), 1e-4, separation=0.5, taught_epochs=3),
    "mnli": Study(NLI, Budget(0, 0, 0, 64, 2), 1e-4, separation=0.5, taught_epochs=3),
    "banking77": Study(("banking77",), Budget(0, 0, 0, 64, 4), 2e-4),
}
"""SNLI and MNLI share their models, trained on both; IMDB, whose reviews are long and so few here,
starts from the shipped checkpoint's encoder and is judged on more of a review than it learns."""
CUTS = (1, 2, 4)
TRAINING = TrainingConfig(
    recipe=Recipe.JOINT, batch_rows=32, averaging=0.99, distillation=0.0, bfloat16=True
)


def main() -> None:
    """Train what is missing, analyse, write one JSON a dataset."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("dataset", choices=[*STUDIES, "all"])
    add("--data", type=Path, required=True, help="holds a folder a dataset with its three files")
    add("--encoder", required=True)
    add("--models", nargs="+", help="of joint, cut1, cut2, cut4, plain, taught, attending, mixed")
    add("--train-rows", type=int, help="instead of the dataset's own budget; 0 is all")
    add("--dev-rows", type=int)
    add("--test-rows", type=int)
    add("--max-tokens", type=int)
    add("--epochs", type=int)
    add("--work", type=Path, default=Path("build/paper"), help="keeps what is trained")
    add("--output", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    for name in STUDIES if args.dataset == "all" else [args.dataset]:
        given = {
            key: getattr(args, key)
            for key in ("train_rows", "dev_rows", "test_rows", "max_tokens", "epochs")
            if getattr(args, key) is not None
        }
        study = STUDIES[name]
        experiment(name, args, replace(study, budget=replace(study.budget, **given)))


def experiment(name: str, args: argparse.Namespace, study: Study) -> None:
    """One dataset from its files to its result."""
    pretrained = load_pretrained(str(study.encoder or args.encoder))
    budget = study.budget
    specs = {spec.name: spec for spec in specs_of(study, pretrained)}
    train, choosing = load_sources(args.data, study.sources, budget.train_rows)
    directory = directory_of(args.work, study)
    for model in args.models or specs:
        print(f"{name}: {model}", flush=True)
        run(specs[model], pretrained, train, choosing, budget.max_tokens, directory)
    parts = load_parts(args.data / name, budget)
    said = directory / f"{name}-{budget.read_tokens}"
    for model in specs:
        if (directory / f"{model}.json").exists():
            logits_of(model, directory, said, parts, budget.read_tokens)
    result = {
        "dataset": name,
        "sources": study.sources,
        "encoder": study.encoder.name if study.encoder else "all-MiniLM-L6-v2",
        "rows": {
            "train": len(train.examples),
            **{part: len(dataset.examples) for part, dataset in parts.items()},
        },
        "budget": asdict(budget),
        "training": asdict(specs["joint"].training),
        "labels": train.labels,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "machine": "2 cores, no GPU, shared with other work",
        "step_time_ratio": step_ratio(pretrained, train, specs["plain"], specs["joint"], budget),
        **analyse(directory, said, pretrained, parts, budget.read_tokens),
    }
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")


def directory_of(work: Path, study: Study) -> Path:
    """Where the models of a study's sources and budget are kept."""
    budget = study.budget
    settings = (budget.train_rows, budget.max_tokens, budget.epochs)
    return work / "+".join(study.sources) / "-".join(map(str, settings))


def specs_of(study: Study, pretrained: PretrainedEncoder) -> list[Spec]:
    """The models of a study.

    All exits, the cuts, the plain one, all exits that go on from that and are taught by it, the
    same with attention in place of the mean, and `mixed` where epochs allow.
    """
    depth = pretrained.config.layers
    training = replace(TRAINING, epochs=study.budget.epochs, learning_rate=study.learning_rate)
    taught = replace(
        training,
        epochs=study.taught_epochs or study.budget.epochs,
        distillation=0.7,
        separation=study.separation,
    )
    every = tuple(range(1, depth + 1))
    specs = [
        Spec("joint", depth, every, training),
        *(Spec(f"cut{layers}", layers, (layers,), training) for layers in CUTS),
        Spec("plain", depth, (depth,), training),
        Spec("taught", depth, every, taught, "plain"),
        Spec("attending", depth, every, taught, "plain", Pooling.ATTENTION),
    ]
    if study.budget.epochs > 1:
        mixed = replace(training, recipe=Recipe.MIXED, distillation=0.5)
        specs.append(Spec("mixed", depth, every, mixed))
    return specs


if __name__ == "__main__":
    main()
