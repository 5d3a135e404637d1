"""The cost model: any shape, outliers, a change of pace, the best step size."""

import random

import pytest

from offramp.scheduler.cost import SURE, CostModel


def beyond_the_caches(tokens: int) -> float:
    return 2.0 + tokens if tokens <= 256 else 258 + 1.6 * (tokens - 256)


def taught(sizes: list[int], noise: float = 0.0) -> CostModel:
    model, chance = CostModel(1), random.Random(1)
    for _ in range(12):
        for tokens in sizes:
            seconds = beyond_the_caches(tokens) * (1 + noise * chance.uniform(-1, 1))
            model.observe(0, max(1, tokens // 16), tokens, seconds)
    return model


def test_a_curve_is_learned_and_its_error_published() -> None:
    model = taught([8, 16, 32, 64, 128, 256, 512, 1024], noise=0.05)
    for tokens in (8, 24, 100, 256, 700, 1024):
        assert model.predict(0, tokens / 16, tokens) == pytest.approx(
            beyond_the_caches(tokens), rel=0.1
        )
    assert 0 < model.error < 0.1


def test_the_best_step_is_where_a_token_costs_least() -> None:
    assert taught([8, 16, 32, 64, 128, 256, 512, 1024]).best_tokens(0, 1024) == 256
    assert taught([8, 64, 256]).best_tokens(0, 512) == 512
    assert CostModel(1).best_tokens(0, 512) == 512


def test_an_outlier_moves_little_and_a_change_is_followed_at_every_size() -> None:
    model = taught([16, 64, 256])
    before = model.predict(0, 4, 64)
    model.observe(0, 4, 64, 100 * before)
    assert model.predict(0, 4, 64) < 1.2 * before
    for _ in range(40):
        model.observe(0, 4, 64, 1.8 * before)
    assert model.predict(0, 4, 64) == pytest.approx(1.8 * before, rel=0.1)
    # Sizes not seen since then follow, at least most of the way.
    assert model.predict(0, 16, 256) > 1.3 * beyond_the_caches(256)


def test_an_outlier_moves_little_as_the_first_of_its_size() -> None:
    model = taught([16, 256])
    expected = model.predict(0, 4, 64)
    model.observe(0, 4, 64, 1000 * expected)
    assert model.predict(0, 4, 64) <= 2 * expected


@pytest.mark.parametrize("spread", [0.1, 0.3, 0.6])
def test_noise_of_one_size_leaves_the_others(spread: float) -> None:
    sizes = [8, 16, 32, 64, 128, 256, 512]
    model, chance = taught(sizes), random.Random(3)
    seconds = beyond_the_caches(16)
    for _ in range(50_000):
        noise = chance.lognormvariate(-spread * spread / 2, spread)
        model.observe(0, 1, 16, seconds * noise)
    for tokens in sizes[2:]:
        assert model.predict(0, tokens / 16, tokens) == pytest.approx(
            beyond_the_caches(tokens), rel=0.25
        )


def test_a_memory_that_noise_would_lead_away_is_refused() -> None:
    with pytest.raises(ValueError, match=r"memory must be 0 to 0.25, not 0.5"):
        CostModel(1, memory=0.5)


def test_rows_count_beside_tokens() -> None:
    model, chance = CostModel(1), random.Random(2)
    for _ in range(400):
        rows = chance.randint(1, 16)
        model.observe(0, rows, 256, 10 + 2 * rows)
    assert model.predict(0, 16, 256) - model.predict(0, 1, 256) > 15


def test_no_step_is_predicted_to_take_nothing_however_much_rows_cost() -> None:
    model = CostModel(1)
    for at in range(400):
        rows = at % 16
        model.observe(0, 1 + rows, 256, 1 + 2 * rows)
    assert model.predict(0, 1, 256) > 0
    assert model.predict(0, 0, 64) > 0


def test_a_size_seen_too_seldom_is_not_the_best_step() -> None:
    model = taught([64, 256])
    for _ in range(SURE - 2):
        model.observe(0, 1, 16, 0.01)
    assert model.best_tokens(0, 256) == 256


def test_the_best_step_is_none_that_is_too_long() -> None:
    assert taught([8, 64, 256, 512]).best_tokens(0, 128) == 128
