"""Recorded steps as a cost: their mean, the machine's pace in time, and what they differ by."""

import random
from itertools import pairwise
from statistics import median

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
    recording = Recording([run([1.0] * 30, noise=0.3)], STAGES)
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


def test_no_time_is_lost_or_won() -> None:
    steps = run([1.0] * 30, noise=0.4)
    recording = Recording([steps], STAGES)
    draw = recording.draw(seed=3)
    batches = [Batch(s.stage, (fakes.request(tokens=s.tokens),), s.at) for s in steps]
    assert sum(map(draw, batches)) == pytest.approx(sum(s.seconds for s in steps), rel=0.03)


def test_a_stall_slows_its_spell_and_no_other() -> None:
    steps = run([1.0] * 20)
    stalled = next(at for at, step in enumerate(steps) if step.at > 5.2 * SPELL)
    steps[stalled] = steps[stalled]._replace(seconds=steps[stalled].seconds + 0.5 * SPELL)
    draw = Recording([steps], STAGES).draw(seed=1)
    drawn = [draw(batch(60, (at + 0.5) * SPELL)) for at in range(20)]
    assert sum(one > 1.3 * steady(60) for one in drawn) == 1


def test_what_is_left_of_a_run_belongs_to_its_last_spell() -> None:
    steps = run([1.0] * 4)
    short = Step(4.01 * SPELL, 0, 1, 8, 20 * steady(8))
    draw = Recording([[*steps, short]], STAGES).draw(seed=1)
    assert max(draw(batch(60, at * SPELL)) for at in range(4)) < 1.3 * steady(60)


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
