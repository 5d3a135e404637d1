"""Linear layers with their weights laid out once for the CPU's matrix kernels.

PyTorch's own float32 linear calls MKL, which lays the weights out anew in every call and, on
other makers' CPUs, takes slower code. oneDNN takes weights reordered beforehand and adds the
bias, the activation and the residual while the product is still in registers: at 25 tokens twice
as fast. These are the operators that torch.compile itself emits when it freezes a model.
"""

import warnings
from functools import cache
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from offramp.model.config import Activation

REORDER_TOKENS = 64
"""The number of tokens that the weights' layout is chosen for; measured alike from 1 to 512."""

FEW_TOKENS = 80
"""Up to so many a product is quicker from weights in half precision (docs/performance.md)."""

FEW_SHARED_TOKENS = 8
"""The same where several threads share oneDNN's product: FBGEMM's runs on one."""

FUSED: dict[Activation, tuple[str, str]] = {
    Activation.GELU: ("gelu", "none"),
    Activation.GELU_NEW: ("gelu", "tanh"),
    Activation.RELU: ("relu", ""),
    Activation.SILU: ("swish", ""),
}
"""oneDNN's names of the activations: operation and algorithm."""


def activate(kind: Activation, hidden: Tensor) -> Tensor:
    """The activation of a feed-forward block."""
    match kind:
        case Activation.GELU:
            return functional.gelu(hidden)
        case Activation.GELU_NEW:
            return functional.gelu(hidden, approximate="tanh")
        case Activation.RELU:
            return functional.relu(hidden)
        case Activation.SILU:
            return functional.silu(hidden)


class Projection(Protocol):
    """A linear layer on `[tokens, inputs]`; hidden states are kept as `dtype`."""

    dtype: ClassVar[torch.dtype]

    def __init__(self, linear: nn.Linear) -> None: ...

    def __call__(self, hidden: Tensor) -> Tensor:
        """The product with its bias: `[tokens, outputs]`."""
        ...

    def activated(self, hidden: Tensor, kind: Activation) -> Tensor:
        """The product with its bias through an activation."""
        ...

    def added(self, hidden: Tensor, residual: Tensor) -> Tensor:
        """The product with its bias plus a residual of its shape."""
        ...


class _OneDnnProjection:
    dtype: ClassVar[torch.dtype]

    def __init__(self, linear: nn.Linear) -> None:
        weight = linear.weight.detach().to(self.dtype).contiguous()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, REORDER_TOKENS)  # noqa: SLF001
        self._bias = linear.bias.detach().to(self.dtype)
        self._unary = torch.ops.mkldnn._linear_pointwise.default  # noqa: SLF001
        self._binary = torch.ops.mkldnn._linear_pointwise.binary  # noqa: SLF001

    def __call__(self, hidden: Tensor) -> Tensor:
        product: Tensor = self._unary(hidden, self._weight, self._bias, "none", [], "")
        return product

    def activated(self, hidden: Tensor, kind: Activation) -> Tensor:
        name, algorithm = FUSED[kind]
        product: Tensor = self._unary(hidden, self._weight, self._bias, name, [], algorithm)
        return product

    def added(self, hidden: Tensor, residual: Tensor) -> Tensor:
        product: Tensor = self._binary(hidden, residual, self._weight, self._bias, "add")
        return product


class OneDnnFloat32Projection(_OneDnnProjection):
    """Computed in float32."""

    dtype: ClassVar[torch.dtype] = torch.float32


class Float32Projection(OneDnnFloat32Projection):
    """Computed in float32; for few tokens from weights held in half precision, where that is exact.

    A product of few tokens waits for its weights, and those of a checkpoint stored in half
    precision are the same numbers in half the bytes: FBGEMM widens them as they come. They are
    held beside the others, half as much again.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self._halved = _halved(linear.weight.detach().float().contiguous())

    def __call__(self, hidden: Tensor) -> Tensor:
        """The product with its bias: `[tokens, outputs]`."""
        product = self._few(hidden)
        return super().__call__(hidden) if product is None else product

    def activated(self, hidden: Tensor, kind: Activation) -> Tensor:
        """The product with its bias through an activation."""
        product = self._few(hidden)
        return super().activated(hidden, kind) if product is None else activate(kind, product)

    def added(self, hidden: Tensor, residual: Tensor) -> Tensor:
        """The product with its bias plus a residual of its shape."""
        product = self._few(hidden)
        return super().added(hidden, residual) if product is None else product.add_(residual)

    def _few(self, hidden: Tensor) -> Tensor | None:
        """The product of few tokens with its bias; None of many, or where weights need float32."""
        most = FEW_TOKENS if torch.get_num_threads() == 1 else FEW_SHARED_TOKENS
        if self._halved is None or hidden.shape[0] > most:
            return None
        return torch.fbgemm_linear_fp16_weight_fp32_activation(hidden, self._halved, self._bias)


@cache
def _halves() -> bool:
    """Whether FBGEMM multiplies with weights in half precision here.

    PyTorch means to drop these operators, and says so of each once a process: here, where nobody
    need hear it. The ones that stay take their weights as an object of another kind, whose check
    raises and catches exceptions in every call: 10 µs where their code is at hand, else several
    times that.
    """
    names = ("fbgemm_pack_gemm_matrix_fp16", "fbgemm_linear_fp16_weight_fp32_activation")
    engines = torch.backends.quantized.supported_engines
    if "fbgemm" not in engines or not all(hasattr(torch, name) for name in names):
        return False
    weight = torch.zeros(1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        handle = torch.fbgemm_pack_gemm_matrix_fp16(weight)
        torch.fbgemm_linear_fp16_weight_fp32_activation(weight, handle, weight[0])
    return True


def _halved(weight: Tensor) -> Tensor | None:
    """A handle of the weight laid out in half precision; None where that would change it."""
    if not _halves() or not torch.equal(weight.half().float(), weight):
        return None
    return torch.fbgemm_pack_gemm_matrix_fp16(weight)


class Bfloat16Projection(_OneDnnProjection):
    """Computed in bfloat16 and summed in float32."""

    dtype: ClassVar[torch.dtype] = torch.bfloat16


class Int8Projection:
    """Weights in int8 per output channel, activations in uint8 per call, sums in int32."""

    dtype: ClassVar[torch.dtype] = torch.float32

    def __init__(self, linear: nn.Linear) -> None:
        weight = linear.weight.detach().float()
        scales = (weight.abs().amax(1) / 127).clamp(min=1e-12).double()
        zeros = torch.zeros(len(scales), dtype=torch.long)
        with warnings.catch_warnings():
            # Quantized tensors are to go from PyTorch some day; their kernels are the quickest yet.
            warnings.simplefilter("ignore")
            quantized = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self._packed = torch.ops.quantized.linear_prepack(quantized, linear.bias.detach().float())
        self._product = torch.ops.quantized.linear_dynamic.default

    def __call__(self, hidden: Tensor) -> Tensor:
        """The product with its bias: `[tokens, outputs]`."""
        product: Tensor = self._product(hidden, self._packed, reduce_range=False)
        return product

    def activated(self, hidden: Tensor, kind: Activation) -> Tensor:
        """The product with its bias through an activation."""
        return activate(kind, self(hidden))

    def added(self, hidden: Tensor, residual: Tensor) -> Tensor:
        """The product with its bias plus a residual of its shape."""
        return self(hidden).add_(residual)
