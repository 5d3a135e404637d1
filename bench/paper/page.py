"""docs/paper.md from the committed results; a dataset without a result is named as not run.

python bench/paper/page.py
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rcParams
from sections import NAMES, plot, section

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
WANTED = {
    "sst2": (0.905, 2.5),
    "ag_news": (0.925, 3.0),
    "imdb": (0.905, 2.5),
    "snli": (0.80, 1.5),
    "mnli": (0.70, 1.3),
    "banking77": (0.90, None),
}
"""What was to be reached: accuracy at full depth, layer speedup at half a point of loss."""


def main() -> None:
    """Write the page and a plot a dataset."""
    found = {name: HERE / "results" / f"{name}.json" for name in NAMES}
    results = {name: json.loads(path.read_text()) for name, path in found.items() if path.exists()}
    promises = json.loads((HERE / "results" / "promises.json").read_text())
    further = json.loads((HERE / "results" / "further.json").read_text())
    missing = [NAMES[name] for name in NAMES if name not in results]
    rcParams["svg.hashsalt"] = "offramp"  # so that a plot that says the same is the same file
    lines = [*_head(missing), *_summary(results), *_further(further), *_promises(promises)]
    for name, result in results.items():
        figure = plot(result)
        figure.savefig(DOCS / f"paper-{name}.svg", format="svg", metadata={"Date": None})
        lines += section(name, result)
    (DOCS / "paper.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _head(missing: Sequence[str]) -> Iterator[str]:
    yield "# The paper's experiments"
    yield ""
    yield "Made by `python bench/paper/page.py` from `bench/paper/results`; do not edit."
    yield ""
    yield (
        "Schwartz et al. (ACL 2020) cut BERT at several layers, train each part separately, and"
        " show that one model with exits keeps up with all of them. `bench/paper/experiment.py`"
        " does the same on a 6-layer MiniLM: all exits trained together (`joint`, the paper's loss;"
        " `mixed` with self-distillation; `taught` by the plain fine-tune, layers serving the next"
        " exit first; `attending` like it, with attention pooling where the cuts and all others"
        " have the mean), the encoder"
        " plainly fine-tuned, the encoder cut after 1, 2 and 4 layers, and a cascade of the 2-layer"
        " cut and full depth. Thresholds, the last exit beside a cut (`max_exit` of a request) and"
        " the model of the summary are chosen on dev, test tells. SNLI and MNLI share their models,"
        " trained on both."
    )
    yield ""
    yield (
        "What differs from the paper: a 6-layer distilled base where the paper has BERT-large and"
        " BERT-base, mean pooling where it has [CLS], the natural language inference train sets"
        " hold 3 to 4 % of the published ones, and rows, tokens and epochs are cut to what two"
        " shared cores can do, as each table says."
    )
    yield ""
    if missing:
        yield (
            f"**Not run yet: {', '.join(missing)}.** The command is `python"
            " bench/paper/experiment.py DATASET --data DIRECTORY --encoder DIRECTORY`; a stopped"
            " run goes on where it was."
        )
        yield ""


def _summary(results: Mapping[str, Any]) -> Iterator[str]:
    """What was wanted and what was found, a line a dataset."""
    yield "## In short"
    yield ""
    yield (
        "| dataset, model | full depth (wanted) | plain fine-tune | layer speedup at 0.5 points on"
        " dev (wanted) | its drop on test, points | cuts that the curve reaches, and misses by more"
        " than chance |"
    )
    yield "|---" * 6 + "|"
    for name, result in results.items():
        models = dict.fromkeys((result["best"], "attending", "joint"))
        yield from (_line(name, result, model) for model in models if model in result["exits"])
    yield ""
    yield (
        "The comparison with the cuts is not one of equal effort: `taught` has the epochs of the"
        " plain fine-tune, which teaches it, and then its own; the cuts have the former alone, and"
        " no teacher. `joint` is trained exactly as they are. `attending`, which dev prefers where"
        " it was trained, pools as the shipped checkpoint does, where the cuts have the mean: what"
        " it gains is not of exits alone. A training step with all exits takes"
        f" {_steps(results)} times a plain one (wanted: at most 1.15); `taught` as a whole takes"
        f" the plain fine-tune and its own epochs, together {_epochs(results)} times the plain"
        " ones."
    )
    yield ""


def _line(name: str, result: Mapping[str, Any], model: str) -> str:
    """What a model of a dataset reaches."""
    accuracy, speedup = WANTED[name]
    found, plain = result["exits"][model], result["full_depth"]
    chosen = found["chosen"][0]
    return (
        f"| {NAMES[name]}, `{model}` | {found['accuracies'][-1]:.3f} ({accuracy:.3f})"
        f" | {'not run' if plain is None else f'{plain:.3f}'}"
        f" | {chosen['layer_speedup']:.2f} ({speedup or '-'})"
        f" | {100 * chosen['accuracy_drop']:+.1f} | {_beside(result['cuts'], model)} |"
    )


def _steps(results: Mapping[str, Any]) -> str:
    """The range of what a step with all exits takes over a plain one."""
    ratios = [result["step_time_ratio"]["median"] for result in results.values()]
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


def _epochs(results: Mapping[str, Any]) -> str:
    """The range of epochs of `taught` and its teacher over those of the plain fine-tune."""
    found: list[float] = []
    for result in results.values():
        if "taught" in (models := result["models"]):
            plain, own = (models[name]["training"]["epochs"] for name in ("plain", "taught"))
            found.append((plain + own) / plain)
    return f"{min(found):g} to {max(found):g}"


def _beside(cuts: Sequence[Any], model: str) -> str:
    """How many cuts a model reaches at their cost, and how many it misses by more than chance."""
    if not cuts:
        return "not run"
    matched = sum(cut[model]["accuracy"] >= cut["accuracy"] for cut in cuts)
    missed = sum(cut[model]["gain"][1] < 0 for cut in cuts)
    return f"{matched} of {len(cuts)}, {missed} missed"


def _further(runs: Sequence[Any]) -> Iterator[str]:
    """Whether more of the same reaches what was not reached."""
    yield "## Looking for what was not reached"
    yield ""
    yield (
        "Models with other settings than those of the summary (`bench/paper/further.py`; nothing"
        " was chosen by these runs). MNLI does not want more of the same: a third epoch and longer"
        " pairs change nothing, its 11,311 pairs are 3 % of the published ones. More teaching and"
        " more epochs of it help the first exits of both NLI sets, and not the later ones, which"
        " are what the cut of four layers is missed by: `taught` gives up a point of the plain"
        " fine-tune at full depth for its early exits, and does not get it back so. Attention"
        " pooling does (`attending` above). AG News with one epoch of `taught` in place of two is"
        " no better either."
    )
    yield ""
    yield (
        "| dataset | model | epochs | tokens in training, after it | its share of the teacher |"
        " full depth, dev | test (wanted) | layer speedup at 0.5 points on dev, its drop on test |"
        " beside the cuts of 1, 2 and 4 layers (theirs) |"
    )
    yield "|---" * 9 + "|"
    for run in runs:
        budget, training = run["budget"], run["training"]
        epochs = f"{budget['epochs']}"
        if run["model"] == "taught":
            epochs += f" and {training['epochs']}"
        yield (
            f"| {NAMES[run['dataset']]} | {run['model']} | {epochs} |"
            f" {budget['max_tokens']}, {budget['judged_tokens'] or budget['max_tokens']} |"
            f" {training['distillation'] or '-'} | {run['dev']:.3f} |"
            f" {run['test']:.3f} ({WANTED[run['dataset']][0]:.3f}) | {_left(run)} |"
            f" {_cuts(run)} |"
        )
    yield ""


def _left(run: Mapping[str, Any]) -> str:
    """The speedup of a model with exits, and what it loses."""
    if "exits" not in run:
        return "-"
    chosen = run["exits"]["chosen"][0]
    return f"{chosen['layer_speedup']:.2f}, {100 * chosen['accuracy_drop']:+.1f}"


def _cuts(run: Mapping[str, Any]) -> str:
    """What a model with exits reaches at the cost of each cut one."""
    return (
        ", ".join(
            f"{cut[run['model']]['accuracy']:.3f} ({cut['accuracy']:.3f})"
            for cut in run.get("cuts", ())
        )
        or "-"
    )


def _promises(results: Mapping[str, Any]) -> Iterator[str]:
    yield "## Promised thresholds"
    yield ""
    rounds = next(iter(results.values()))["rounds"]
    yield (
        f"`bench/paper/promises.py` calibrates {rounds} times on parts of a dev file and counts"
        " broken promises. *Draws* take the file as the whole population, so the loss of a"
        " threshold is known exactly: at most 5 % may break, plus sampling error (two standard"
        f" deviations of {rounds} draws are 3 %). Else a quarter or a half of the file, drawn at"
        " random, calibrates and the rest judges. There what the calibrating part happens to lack"
        " lies with the judge, and his own sampling error counts as breaking, so that more may"
        " break even where every promise is true: the limit of the third column, reached if the"
        " file as a whole loses what makes both likely. A threshold of 1 is full depth: so few rows"
        " can't promise less."
    )
    yield ""
    yield (
        "| dev | calibrated on | may break | allowed | drop broken | mean threshold |"
        " disagreement broken | mean threshold |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for source, result in results.items():
        for way, found in result["ways"].items():
            for row in found["counts"]:
                yield (
                    f"| {NAMES[source]}, {result['examples']} | {way} | {found['limit']:.1%} |"
                    f" {row['allowed']:.1%} | {row['drop_broken'] / rounds:.1%} |"
                    f" {row['drop_threshold']:.3f} | {row['disagreement_broken'] / rounds:.1%} |"
                    f" {row['agreement_threshold']:.3f} |"
                )
    yield ""


if __name__ == "__main__":
    main()
