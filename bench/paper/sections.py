"""A dataset's section of docs/paper.md, and its plot."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

NAMES = {
    "sst2": "SST-2",
    "ag_news": "AG News",
    "imdb": "IMDB",
    "snli": "SNLI",
    "mnli": "MNLI",
    "banking77": "Banking77",
}
MODELS = ("joint", "cut1", "cut2", "cut4", "plain")


def section(name: str, result: Mapping[str, Any]) -> Iterator[str]:
    """What was trained on what, and its figures."""
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
    return (
        f" `taught` goes on from `{start}` for {epochs}. {training['distillation']:.0%} of its"
        f" losses come from its teacher, and of later exits' gradients"
        f" {training['separation']:.0%} are dropped at each exit."
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


def plot(result: Mapping[str, Any]) -> Figure:
    """Test accuracy over mean layers, with the cuts and the plain fine-tune as points."""
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
