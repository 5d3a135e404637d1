"""Products of few tokens use weights in half precision where that is exact, others oneDNN's."""

from collections.abc import Callable, Generator

import pytest
import torch
from torch import Tensor, nn

from offramp.model.config import Activation
from offramp.model.projection import (
    FEW_SHARED_TOKENS,
    FEW_TOKENS,
    Float32Projection,
    OneDnnFloat32Projection,
)

pytestmark = pytest.mark.skipif(
    "fbgemm" not in torch.backends.quantized.supported_engines, reason="no FBGEMM here"
)
Product = Callable[[OneDnnFloat32Projection, Tensor], Tensor]
PRODUCTS: list[Product] = [
    lambda projection, hidden: projection(hidden),
    lambda projection, hidden: projection.activated(hidden, Activation.GELU),
    lambda projection, hidden: projection.added(hidden, hidden),
]


@pytest.fixture(params=[1, 2])
def most(request: pytest.FixtureRequest) -> Generator[int]:
    """The most tokens that are few, with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield FEW_TOKENS if request.param == 1 else FEW_SHARED_TOKENS
    torch.set_num_threads(before)


def linear(largest: float, *, halved: bool) -> nn.Linear:
    torch.manual_seed(0)
    made = nn.Linear(16, 16).requires_grad_(requires_grad=False)
    made.weight[0, 0] = largest
    return made.half().float() if halved else made


@pytest.fixture
def multiplied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tokens of each product with weights in half precision."""
    product, tokens = torch.fbgemm_linear_fp16_weight_fp32_activation, list[int]()

    def counted(hidden: Tensor, handle: Tensor, bias: Tensor) -> Tensor:
        tokens.append(len(hidden))
        return product(hidden, handle, bias)

    monkeypatch.setattr(torch, "fbgemm_linear_fp16_weight_fp32_activation", counted)
    return tokens


@pytest.mark.parametrize("product", PRODUCTS)
@torch.inference_mode()
def test_few_tokens_take_half_the_bytes(product: Product, most: int, multiplied: list[int]) -> None:
    weights = linear(1.0, halved=True)
    ours, reference = Float32Projection(weights), OneDnnFloat32Projection(weights)
    multiplied.clear()
    for tokens in (1, most, most + 1):
        hidden = torch.randn(tokens, 16)
        torch.testing.assert_close(product(ours, hidden), product(reference, hidden))
    assert multiplied == [1, most]


@pytest.mark.parametrize(
    "weights",
    [linear(0.1, halved=False), linear(70_000.0, halved=False), linear(float("nan"), halved=False)],
)
@torch.inference_mode()
def test_weights_that_half_precision_would_change_stay_float32(
    weights: nn.Linear, multiplied: list[int]
) -> None:
    ours, reference = Float32Projection(weights), OneDnnFloat32Projection(weights)
    multiplied.clear()
    hidden = torch.randn(3, 16)
    torch.testing.assert_close(ours(hidden), reference(hidden), equal_nan=True)
    assert not multiplied
