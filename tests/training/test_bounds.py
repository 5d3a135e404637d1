"""The binomial bound against its definition and against closed forms."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from offramp.training.bounds import at_most, most_events, upper_bounds


def test_the_ends_have_closed_forms() -> None:
    none, one, all_ = upper_bounds(torch.tensor([0, 1, 654]), 654).tolist()
    assert none == pytest.approx(1 - 0.05 ** (1 / 654), rel=1e-9)
    assert (1 - one) ** 654 + 654 * one * (1 - one) ** 653 == pytest.approx(0.05)
    assert all_ == 1


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))))
def test_at_the_bound_so_few_events_have_the_probability_alpha(case: tuple[int, int]) -> None:
    events, trials = torch.tensor([case[0]]), case[1]
    bound = upper_bounds(events, trials)
    assert events / trials < bound
    assert at_most(events, trials, bound).item() == pytest.approx(0.05, abs=1e-4)


def test_it_covers_the_truth_in_95_of_100_samples() -> None:
    draw = torch.Generator().manual_seed(0)
    samples = (torch.rand(2000, 300, generator=draw) < 0.02).sum(1)
    missed = (upper_bounds(samples, 300) < 0.02).double().mean().item()
    assert missed <= 0.05 + 0.01


@given(st.integers(1, 800), st.floats(0, 1))
def test_one_event_more_than_the_most_is_beyond_the_limit(trials: int, limit: float) -> None:
    bounds = [0.0, *upper_bounds(torch.arange(trials + 1), trials).tolist(), 2.0]
    most = most_events(limit, trials)
    assert bounds[most + 1] <= limit < bounds[most + 2]
