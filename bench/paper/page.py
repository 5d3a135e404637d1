"""docs/paper.md from the committed results; a dataset without a result is named as not run.

python bench/paper/page.py
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
NAMES = {
    "sst2": "SST-2",
    "ag_news": "AG News",
    "imdb": "IMDB",
    "snli": "SNLI",
    "mnli": "MNLI",
    "banking77": "Banking77",
}
WANTED = {
    "sst2": (0.905, 2.5),
    "ag_news": (0.925, 3.0),
    "imdb": (0.905, 2.5),
    "snli": (0.80, 1.5),
    "mnli": (0.70, 1.3),
    "banking77": (0.90, None),
}
"""What was to be reached: accuracy at full depth, layer speedup at half a point of loss."""
MODELS = ("joint", "cut1", "cut2", "cut4", "plain")


def main() -> None:
    """Write the page and a plot a dataset."""
    found = {name: HERE / "results" / f"{name}.json" for name in NAMES}
    results = {name: json.loads(path.read_text()) for name, path in found.items() if path.exists()}
    promises = json.loads((HERE / "results" / "promises.json").read_text())
    missing = [NAMES[name] for name in NAMES if name not in results]
    lines = [*_head(missing), *_summary(results), *_promises(promises)]
    for name, result in results.items():
        figure = _plot(result)
        figure.savefig(DOCS / f"paper-{name}.svg", format="svg", metadata={"Date": None})
        lines += _dataset(name, result)
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
        " cut and full depth. Thresholds and the model of the summary are chosen on dev, test"
        " tells. SNLI and MNLI share their models, trained on both."
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
        "| dataset | full depth, all exits trained (wanted) | plain fine-tune | layer speedup at"
        " 0.5 points on dev (wanted) | its drop on test, points | cuts that the curve reaches,"
        " and misses by more than chance |"
    )
    yield "|---|---|---|---|---|---|"
    for name, result in results.items():
        best = result["exits"][result["best"]]
        accuracy, speedup = WANTED[name]
        chosen = best["chosen"][0]
        plain, cuts = result["full_depth"], result["cuts"]
        beside = [(cut[result["best"]], cut["accuracy"]) for cut in cuts]
        matched = sum(at["accuracy"] >= accuracy for at, accuracy in beside)
        missed = sum(at["gain"][1] < 0 for at, _ in beside)
        yield (
            f"| {NAMES[name]} (`{result['best']}`) | {best['accuracies'][-1]:.3f} ({accuracy:.3f})"
            f" | {'not run' if plain is None else f'{plain:.3f}'}"
            f" | {chosen['layer_speedup']:.2f} ({speedup or '-'})"
            f" | {100 * chosen['accuracy_drop']:+.1f}"
            f" | {f'{matched} of {len(cuts)}, {missed} missed' if cuts else 'not run'} |"
        )
    yield ""


def _promises(result: Mapping[str, Any]) -> Iterator[str]:
    yield "## Promised thresholds"
    yield ""
    yield (
        f"`bench/paper/promises.py` calibrates {result['checkpoint']} {result['rounds']} times on"
        f" parts of SST-2 dev ({result['examples']} texts) and counts broken promises. *Draws* take"
        " dev as the whole population, so the loss of a threshold is known exactly; *splits* judge"
        " on the other half, whose own sampling error counts as breaking. At most 5 % may break,"
        f" {round(0.05 * result['rounds'])} of {result['rounds']}, plus sampling error (two"
        " standard deviations are 6)."
    )
    yield ""
    yield "| allowed | way | drop broken | mean threshold | disagreement broken | mean threshold |"
    yield "|---|---|---|---|---|---|"
    for way in ("draws", "splits"):
        for row in result[way]:
            yield (
                f"| {row['allowed']:.1%} | {way} | {row['drop_broken']} |"
                f" {row['drop_threshold']:.3f} | {row['disagreement_broken']} |"
                f" {row['agreement_threshold']:.3f} |"
            )
    yield ""


def _dataset(name: str, result: Mapping[str, Any]) -> Iterator[str]:
    rows, best, budget = result["rows"], result["exits"][result["best"]], result["budget"]
    curves = _curves(result)
    yield f"## {NAMES[name]}"
    yield ""
    untrained = ", ".join(model for model in MODELS if model not in result["models"])
    yield (
        f"{rows['train']} train ({' and '.join(NAMES[one] for one in result['sources'])}),"
        f" {rows['dev']} dev and {rows['test']} test texts, {_tokens(budget)},"
        f" {budget['epochs']} {'epoch' if budget['epochs'] == 1 else 'epochs'} at a learning rate"
        f" of {result['training']['learning_rate']:g}, from {result['encoder']};"
        f" {result['machine']}."
        f"{f' Not trained: {untrained}.' if untrained else ''}{_teaching(result['models'])}"
    )
    yield ""
    if name == "sst2":
        yield (
            "The shipped checkpoint, trained on more text with a teacher and with a threshold for"
            " each exit, does better on the same test sentences: see [README](../README.md)."
        )
        yield ""
    yield f"![accuracy over mean layers](paper-{name}.svg)"
    yield ""
    yield f"Test accuracy of each exit of `{result['best']}`: {_list(best['accuracies'])}."
    yield ""
    yield "| model | allowed loss on dev | test accuracy | drop (95 %) | layer speedup |"
    yield "|---|---|---|---|---|"
    for kind, found in curves:
        for at in found["chosen"]:
            low, high = at["accuracy_drop_interval"]
            yield (
                f"| {kind} | {100 * at['allowed']:g} | {at['accuracy']:.3f} |"
                f" {100 * at['accuracy_drop']:.1f} ({100 * low:.1f} to {100 * high:.1f}) |"
                f" {at['layer_speedup']:.2f} |"
            )
    yield ""
    if result["cuts"]:
        kinds = list(result["exits"])
        costs = " | ".join(f"{kind}, same cost (over the cut, points, 95 %)" for kind in kinds)
        yield f"| cut after | trained separately | {costs} |"
        yield "|---" * (2 + len(kinds)) + "|"
        for cut in result["cuts"]:
            own = " | ".join(_beside(cut[kind]) for kind in kinds)
            yield f"| {cut['layers']} layers | {cut['accuracy']:.3f} | {own} |"
        yield ""
    ratio, model = result["step_time_ratio"], result["models"]["joint"]
    share = model["head_parameters"] / model["parameters"]
    yield (
        f"A training step with all exits takes {ratio['median']:.2f} times a plain one (quartiles"
        f" {ratio['quartile_1']:.2f} to {ratio['quartile_3']:.2f}) and its heads are"
        f" {share:.3%} of the parameters. ECE per exit of `{result['best']}`:"
        f" {_list(best['ece_before'])} before, {_list(best['ece_after'])} after calibration,"
        f" {_list(best['ece_by_chance'])} by chance alone if it were perfect, on so many texts."
        f" Spearman of first-exit confidence with length {result['difficulty']['length']:+.2f},"
        f" with agreement of exits {result['difficulty']['agreement']:+.2f}."
    )
    yield ""


def _tokens(budget: Mapping[str, Any]) -> str:
    judged = budget["judged_tokens"]
    return f"{budget['max_tokens']} tokens{f' in training and {judged} after it' if judged else ''}"


def _teaching(models: Mapping[str, Any]) -> str:
    if "taught" not in models:
        return ""
    training, start = models["taught"]["training"], models["taught"]["goes_on_from"]
    epochs = f"{training['epochs']} more {'epoch' if training['epochs'] == 1 else 'epochs'}"
    goes_on = f" `taught` goes on from `{start}` for {epochs}." if start else ""
    return (
        f"{goes_on} Of the losses of `taught` {training['distillation']:.0%} come from its teacher,"
        f" and of later exits' gradients {training['separation']:.0%} are dropped at each exit."
    )


def _curves(result: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Every model with a trade-off, the cascade last if there is one."""
    cascade = result["cascade"]
    return [*result["exits"].items(), *([("cascade", cascade)] if cascade else [])]


def _beside(at: Mapping[str, Any]) -> str:
    low, high = at["gain"]
    return f"{at['accuracy']:.3f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _list(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def _plot(result: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for kind, found in _curves(result):
        curve = [point for point in found["curve"] if point["layer_speedup"] >= 1]
        layers = [result["exits"]["joint"]["exit_layers"][-1] / p["layer_speedup"] for p in curve]
        axes.plot(layers, [point["accuracy"] for point in curve], label=kind)
    cuts = result["cuts"]
    if cuts:
        axes.plot([c["layers"] for c in cuts], [c["accuracy"] for c in cuts], "ks", label="cut")
    depth = result["exits"]["joint"]["exit_layers"][-1]
    if result["full_depth"] is not None:
        axes.plot(depth, result["full_depth"], "k*", ms=11, label="plain, full depth")
    axes.set_xlabel("mean layers run")
    axes.set_ylabel("test accuracy")
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
