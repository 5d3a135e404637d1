"""Recorded steps as a cost: their mean, the machine's pace in time, and what they differ by."""

import random
from itertools import pairwise
from statistics import mean, median, pstdev

import fakes
import pytest

from offramp.scheduler.backend import Batch
from offramp.scheduler.recording import SPELL, Recording, Step

STAGES = 2


def steady(tokens: int) -> float:
    return 0.001 + 0.0002 * tokens


def run(pace: list[float], noise: float = 0.0, seed: int = 1) -> list[Step]:
    """Steps one after another, the machine's pace a spell each."""
    chance, now, steps = random.Random(seed), 0.0, list[Step]()
    while now < len(pace) * SPELL:
        tokens = chance.choice([8, 24, 60, 150])
        seconds = steady(tokens) * pace[int(now / SPELL)] * (1 + noise * chance.uniform(-1, 1))
        steps.append(Step(now, chance.randrange(STAGES), tokens // 8, tokens, seconds))
        now += seconds
    return steps


def batch(tokens: int, at: float = 0.0, stage: int = 1) -> Batch:
    return Batch(stage, (fakes.request(tokens=tokens),), at)


def test_the_mean_is_that_of_steps_of_the_size() -> None:
    recording = Recording([run([1.0] * 10, noise=0.3)], STAGES)
    for tokens in (8, 24, 60, 150):
        assert recording.mean(0, tokens // 8, tokens) == pytest.approx(steady(tokens), rel=0.06)


def test_slow_spells_come_back_as_long_as_they_were() -> None:
    recorded = [1.0, 1.0, 1.0, 2.0, 2.0] * 6
    draw = Recording([run(recorded)], STAGES).draw(seed=3)
    spells = [
        median(draw(batch(60, (at + share / 25) * SPELL)) for share in range(25))
        for at in range(len(recorded))
    ]
    slow = [spell > 1.5 * steady(60) for spell in spells]
    assert sum(slow) == 12
    turns = sum(here != before for before, here in pairwise([*slow, slow[0]]))
    assert turns == 12


def test_steps_of_a_size_differ_as_they_did() -> None:
    recording = Recording([run([1.0] * 60, noise=0.4)], STAGES)
    draw = recording.draw(seed=3)
    drawn = [draw(batch(60, 0.01 * at)) for at in range(600)]
    assert mean(drawn) == pytest.approx(steady(60), rel=0.1)
    assert pstdev(drawn) == pytest.approx(0.4 / 3**0.5 * steady(60), rel=0.2)


def test_a_stall_is_seconds_and_not_a_share() -> None:
    steps = run([1.0] * 20)
    stalled = [
        step._replace(seconds=step.seconds + 0.05) if at % 25 == 0 and step.tokens == 8 else step
        for at, step in enumerate(steps)
    ]
    draw = Recording([stalled], STAGES).draw(seed=1)
    assert max(draw(batch(150, 0.01 * at)) for at in range(300)) < steady(150) + 0.06


def test_the_same_seed_draws_the_same() -> None:
    recording = Recording([run([1.0, 1.5] * 5, noise=0.2)], STAGES)
    one, same, other = (recording.draw(seed) for seed in (1, 1, 2))
    batches = [batch(24, 0.1 * at) for at in range(20)]
    first = [one(each) for each in batches]
    assert first == [same(each) for each in batches]
    assert first != [other(each) for each in batches]


def test_nothing_recorded_says_so() -> None:
    with pytest.raises(ValueError, match="record some steps"):
        Recording([[]], STAGES)
