"""From what the exits said on dev and test to the figures of a page. Dev chooses, test tells."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from measures import accuracy, ece_by_chance, gain, spearman
from torch import Tensor
from trained import lengths, truth

from offramp.model.calibration import TradeOff
from offramp.model.pretrained import PretrainedEncoder
from offramp.model.rules import PLAIN, ExitRule, ExitScores, RuleKind, score_exits
from offramp.training.data import Dataset
from offramp.training.sweep import Sweep, thresholds_of
from offramp.training.temperature import Reliability, fit_temperature
from offramp.training.tuning import fit_rule

LOSSES = (0.005, 0.01)
OnBoth = tuple[Sweep, Sweep]
"""On dev and on test."""

POOLED_AS_CUTS = ("joint", "taught", "mixed")
"""Models with exits that pool tokens as the cut ones do: what is said of them is said of exits."""


def analyse(
    directory: Path,
    said: Path,
    pretrained: PretrainedEncoder,
    parts: dict[str, Dataset],
    read_tokens: int,
) -> dict[str, Any]:
    """Everything about the models in `directory` whose logits are in `said`, as JSON.

    `joint` must be among them.
    """
    logits = {path.stem: torch.load(path) for path in sorted(said.glob("*.pt"))}
    models = {name: json.loads((directory / f"{name}.json").read_text()) for name in logits}
    dev, test = truth(parts["dev"]), truth(parts["test"])
    exits: dict[str, dict[str, Any]] = {}
    sweeps: dict[str, list[OnBoth]] = {}
    for name in (*POOLED_AS_CUTS, "attending"):
        if name in logits:
            layers = models[name]["exit_layers"]
            exits[name], sweeps[name] = early_exit(logits[name], dev, test, layers)
    compared = [name for name in POOLED_AS_CUTS if name in exits]
    best = max(compared, key=lambda name: exits[name]["dev_score"])
    cuts: list[dict[str, Any]] = []
    for cut in sorted(name for name in models if name.startswith("cut")):
        right, layers = logits[cut]["test"][-1].argmax(-1) == test, models[cut]["layers"]
        beside = {name: at_cost(limited, layers, right) for name, limited in sweeps.items()}
        cuts.append({"layers": layers, "accuracy": right.double().mean().item(), **beside})
    plain, small = logits.get("plain"), logits.get("cut2")
    large = plain or {part: at[-1:] for part, at in logits[best].items()}
    first_confidence = score_exits(PLAIN, logits[best]["test"][:1], (1.0,)).confidences[0]
    answers = logits[best]["test"].argmax(-1)
    agreement = (answers == answers[-1]).double().mean(0)
    sizes, times = ("parameters", "head_parameters"), ("train_seconds", "train_cpu_seconds")
    keys = ("training", "goes_on_from", *sizes, *times, "epochs")
    depth = models["joint"]["layers"]
    return {
        "full_depth": None if plain is None else accuracy(plain["test"][-1], test),
        "exits": exits,
        "best": best,
        "cuts": cuts,
        "cascade": None if small is None else _cascade(small, large, dev, test, 2, depth),
        "models": {name: {key: model.get(key) for key in keys} for name, model in models.items()},
        "difficulty": {
            "length": spearman(first_confidence, lengths(pretrained, parts["test"], read_tokens)),
            "agreement": spearman(first_confidence, agreement),
        },
    }


def early_exit(
    logits: dict[str, Tensor], dev: Tensor, test: Tensor, layers: Sequence[int]
) -> tuple[dict[str, Any], list[OnBoth]]:
    """The figures of a model with exits, and its answers at all thresholds up to each exit."""
    temperatures = [fit_temperature(at, dev) for at in logits["dev"]]
    thresholds = (0.0, *thresholds_of(PLAIN, logits["dev"].shape[-1]))

    def sweep(part: str, labels: Tensor, exits: int) -> Sweep:
        scored = score_exits(PLAIN, logits[part][:exits], temperatures[:exits])
        return Sweep.of(scored, labels, layers[:exits], thresholds)

    limited = [
        (sweep("dev", dev, exits), sweep("test", test, exits))
        for exits in range(1, len(layers) + 1)
    ]
    on_dev, on_test = limited[-1]
    accuracies = (logits["dev"].argmax(-1) == dev).double().mean(-1).tolist()
    rules: dict[str, Any] = {}
    for kind in RuleKind:
        rule = fit_rule(kind, logits["dev"], dev, temperatures, layers)
        by_rule = {part: score_exits(rule, logits[part], temperatures) for part in logits}
        rules[kind] = _chosen(rule, by_rule, dev, test, layers)
    figures = {
        "dev_score": accuracies[-1] + sum(accuracies[:-1]) / (len(accuracies) - 1),
        "exit_layers": list(layers),
        "accuracies": (logits["test"].argmax(-1) == test).double().mean(-1).tolist(),
        "temperatures": temperatures,
        "ece_before": [Reliability.of(at, test, 1.0).ece for at in logits["test"]],
        "ece_after": [
            Reliability.of(at, test, temperature).ece
            for at, temperature in zip(logits["test"], temperatures, strict=True)
        ],
        "ece_by_chance": [
            ece_by_chance(at, temperature)
            for at, temperature in zip(logits["test"], temperatures, strict=True)
        ],
        "curve": [asdict(point) for point in on_test.points()],
        "chosen": [{"allowed": allowed, **_judged(on_dev, on_test, allowed)} for allowed in LOSSES],
        "rules": rules,
    }
    return figures, limited


def _chosen(
    rule: ExitRule,
    scored: dict[str, ExitScores],
    dev: Tensor,
    test: Tensor,
    layers: Sequence[int],
) -> list[dict[str, Any]]:
    thresholds = thresholds_of(rule, 10**6)
    on_dev = Sweep.of(scored["dev"], dev, layers, thresholds)
    on_test = Sweep.of(scored["test"], test, layers, thresholds)
    return [{"allowed": allowed, **_judged(on_dev, on_test, allowed)} for allowed in LOSSES]


def _judged(on_dev: Sweep, on_test: Sweep, allowed: float) -> dict[str, Any]:
    """The lowest threshold that loses no more on dev, from it up, and what it gives on test."""
    place = len(on_dev.thresholds) - 1
    points = on_dev.points()
    while place and points[place - 1].accuracy_drop <= allowed:
        place -= 1
    point: TradeOff = on_test.points()[place]
    interval = gain(on_test.full_right, on_test.right[place])
    return {**asdict(point), "accuracy_drop_interval": interval}


def _cascade(
    small: dict[str, Tensor],
    large: dict[str, Tensor],
    dev: Tensor,
    test: Tensor,
    small_layers: int,
    large_layers: int,
) -> dict[str, Any]:
    """Two models: the small answers where it is confident, else the large runs from the start."""
    both = {part: torch.cat([small[part][-1:], large[part][-1:]]) for part in small}
    temperatures = [fit_temperature(at, dev) for at in both["dev"]]
    layers = (small_layers, small_layers + large_layers)
    thresholds = thresholds_of(PLAIN, both["dev"].shape[-1])
    sweeps = {
        part: Sweep.of(score_exits(PLAIN, both[part], temperatures), labels, layers, thresholds)
        for part, labels in (("dev", dev), ("test", test))
    }
    curve = [asdict(point) for point in sweeps["test"].points()]
    chosen = [
        {"allowed": allowed, **_judged(sweeps["dev"], sweeps["test"], allowed)}
        for allowed in LOSSES
    ]
    for point in (*curve, *chosen):
        point["layer_speedup"] = large_layers / point["mean_layers"]
    return {"small_layers": small_layers, "curve": curve, "chosen": chosen}


def at_cost(limited: Sequence[OnBoth], layers: int, cut: Tensor) -> dict[str, Any]:
    """The accuracy at no more than these mean layers, and its gain over a cut model.

    Threshold and last exit, the two knobs of a request, are those of what dev can afford that are
    best there. `cut` is the other model's right answers on test, bool `[rows]`.
    """
    affordable = [
        (point.accuracy, on_test.right[place])
        for on_dev, on_test in limited
        for place, point in enumerate(on_dev.points())
        if point.mean_layers <= layers
    ]
    _, right = max(affordable, key=lambda found: found[0])
    return {"accuracy": right.double().mean().item(), "gain": gain(right, cut)}
