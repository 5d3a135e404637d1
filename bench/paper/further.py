"""What a model reaches with other settings: the runs that look for a missing figure.

python bench/paper/further.py mnli --judged-tokens 128 --data DIRECTORY --encoder DIRECTORY
python bench/paper/further.py mnli --model taught --taught-epochs 5 --distillation 0.9 \
    --work build/paper-long --data DIRECTORY --encoder DIRECTORY

Trains the model of the study, by default the plain fine-tune, with these rows, tokens, epochs or
share of the teacher, unless it is there, and notes its accuracy on dev and test in
`results/further.json`; of a model with exits also where they leave, and what it reaches at the cost
of the study's cut models. Where only `taught` differs, `--work` needs the study's plain model.
Nothing of the study is chosen by these runs: they tell whether more would have been enough.
docs/paper.md lists them.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from experiment import CUTS, STUDIES, directory_of, specs_of
from figures import at_cost, early_exit
from measures import accuracy
from trained import load_parts, load_sources, logits_of, run, truth

from offramp.model.pretrained import load_pretrained

OUTPUT = Path(__file__).parent / "results" / "further.json"


def main() -> None:
    """Train and judge one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("dataset", choices=STUDIES)
    add("--data", type=Path, required=True, help="holds a folder a dataset with its three files")
    add("--encoder", required=True)
    add("--model", default="plain", help="`taught` needs the plain one of this budget")
    add("--train-rows", type=int)
    add("--max-tokens", type=int)
    add("--epochs", type=int)
    add("--judged-tokens", type=int)
    add("--taught-epochs", type=int, help="of `taught` after those of the plain one")
    add("--distillation", type=float, help="share of `taught`'s losses that its teacher has")
    add("--work", type=Path, default=Path("build/paper"), help="keeps what is trained")
    add("--study", type=Path, default=Path("build/paper"), help="has the study's cut models")
    args = parser.parse_args()
    study = STUDIES[args.dataset]
    keys = ("train_rows", "max_tokens", "epochs", "judged_tokens")
    given = {key: getattr(args, key) for key in keys if getattr(args, key) is not None}
    cuts = directory_of(args.study, study) / f"{args.dataset}-{study.budget.read_tokens}"
    study = replace(
        study,
        budget=replace(study.budget, **given),
        taught_epochs=args.taught_epochs or study.taught_epochs,
    )
    budget = study.budget
    pretrained = load_pretrained(str(study.encoder or args.encoder))
    spec = next(spec for spec in specs_of(study, pretrained) if spec.name == args.model)
    if args.distillation is not None:
        spec = replace(spec, training=replace(spec.training, distillation=args.distillation))
    train, choosing = load_sources(args.data, study.sources, budget.train_rows)
    directory = directory_of(args.work, study)
    run(spec, pretrained, train, choosing, budget.max_tokens, directory)
    parts = load_parts(args.data / args.dataset, budget)
    said = directory / f"{args.dataset}-{budget.read_tokens}"
    logits_of(spec.name, directory, said, parts, budget.read_tokens)
    logits = torch.load(said / f"{spec.name}.pt")
    labels = {part: truth(parts[part]) for part in parts}
    found: dict[str, Any] = {
        "dataset": args.dataset,
        "model": spec.name,
        "budget": asdict(budget),
        "training": {key: getattr(spec.training, key) for key in ("epochs", "distillation")},
        "train_rows": len(train.examples),
        **{part: accuracy(logits[part][-1], labels[part]) for part in parts},
    }
    if len(spec.exit_layers) > 1:
        figures, sweeps = early_exit(logits, labels["dev"], labels["test"], spec.exit_layers)
        found["exits"] = {key: figures[key] for key in ("accuracies", "chosen", "ece_after")}
        found["cuts"] = []
        for layers in CUTS:
            right = torch.load(cuts / f"cut{layers}.pt")["test"][-1].argmax(-1) == labels["test"]
            beside = at_cost(sweeps, layers, right)
            own = right.double().mean().item()
            found["cuts"].append({"layers": layers, "accuracy": own, args.model: beside})
    runs: list[dict[str, Any]] = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else []
    same = ("dataset", "model", "budget", "training")
    runs = [one for one in runs if any(one[key] != found[key] for key in same)]
    runs = sorted([*runs, found], key=lambda one: list(STUDIES).index(one["dataset"]))
    OUTPUT.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    print(f"{found['dataset']} {spec.name}: dev {found['dev']:.4f}, test {found['test']:.4f}")


if __name__ == "__main__":
    main()
