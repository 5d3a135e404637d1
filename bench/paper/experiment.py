"""The experiments of Schwartz et al. 2020 on a 6-layer encoder, a dataset or all of them.

python bench/paper/experiment.py sst2 --data DIRECTORY --encoder DIRECTORY
python bench/paper/experiment.py all --data DIRECTORY --encoder DIRECTORY

For each: the encoder with all exits, the encoder plainly fine-tuned, and the encoder cut after
some layers, all on the same rows with the same settings. Models that are there are not trained
again, so a stopped run goes on. Rows, tokens and epochs are budgeted; what was really used is in
the result. `python bench/paper/page.py` makes docs/paper.md of the results.
"""

import argparse
import json
import platform
from dataclasses import asdict, replace
from pathlib import Path

import torch
from figures import analyse
from steps import step_ratio
from trained import Budget, Spec, load_parts, run

from offramp.model.pretrained import load_pretrained
from offramp.training.recipe import Recipe, TrainingConfig

BUDGETS = {
    "sst2": Budget(0, 0, 0, 128, 2),
    "ag_news": Budget(4000, 1000, 1500, 96, 2),
    "snli": Budget(6000, 1000, 1500, 64, 2),
    "mnli": Budget(6000, 1000, 1500, 64, 2),
    "imdb": Budget(2000, 800, 1000, 160, 2),
}
CUTS = (1, 2, 4)
TRAINING = TrainingConfig(recipe=Recipe.JOINT, learning_rate=7e-5, averaging=0.99, distillation=0.0)


def main() -> None:
    """Train what is missing, analyse, write one JSON a dataset."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("dataset", choices=[*BUDGETS, "all"])
    add("--data", type=Path, required=True, help="holds a folder a dataset with its three files")
    add("--encoder", required=True)
    add("--train-rows", type=int, help="instead of the dataset's own budget; 0 is all")
    add("--dev-rows", type=int)
    add("--test-rows", type=int)
    add("--max-tokens", type=int)
    add("--epochs", type=int)
    add("--work", type=Path, default=Path("build/paper"), help="keeps what is trained")
    add("--output", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    for name in BUDGETS if args.dataset == "all" else [args.dataset]:
        given = {
            key: getattr(args, key)
            for key in ("train_rows", "dev_rows", "test_rows", "max_tokens", "epochs")
            if getattr(args, key) is not None
        }
        experiment(name, args, replace(BUDGETS[name], **given))


def experiment(name: str, args: argparse.Namespace, budget: Budget) -> None:
    """One dataset from its files to its result."""
    pretrained = load_pretrained(args.encoder)
    depth = pretrained.config.layers
    training = replace(TRAINING, epochs=budget.epochs, bfloat16=True)
    all_layers = tuple(range(1, depth + 1))
    mixed = replace(training, recipe=Recipe.MIXED, distillation=0.5)
    specs = [
        Spec("plain", depth, (depth,), training),
        Spec("joint", depth, all_layers, training),
        *(Spec(f"cut{layers}", layers, (layers,), training) for layers in CUTS),
        *([Spec("mixed", depth, all_layers, mixed)] if budget.epochs > 1 else []),
    ]
    parts = load_parts(args.data / name, budget)
    key = "-".join(str(value) for value in asdict(budget).values())
    directory = args.work / name / key
    for spec in specs:
        print(f"{name}: {spec.name}", flush=True)
        run(spec, pretrained, parts, budget.max_tokens, directory)
    result = {
        "dataset": name,
        "rows": {part: len(dataset.examples) for part, dataset in parts.items()},
        "budget": asdict(budget),
        "labels": parts["train"].labels,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "machine": "2 cores, no GPU, shared with other work",
        "step_time_ratio": step_ratio(pretrained, parts["train"], specs[0], specs[1], budget),
        **analyse(directory, pretrained, parts, budget.max_tokens),
    }
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
