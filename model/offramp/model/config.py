"""The shape of a model: its encoder, its exits, its labels; frozen, validated once."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self


class Pooling(StrEnum):
    """How the tokens of a row become the one vector that feeds the exit heads.

    Their mean, the first one through the pooler, or a mean weighted by attention: each layer has
    a learned query, and a token counts by the softmax of its product with that (Lin et al., "A
    Structured Self-attentive Sentence Embedding", ICLR 2017, with one hop and no hidden layer).
    """

    MEAN = "mean"
    CLS = "cls"
    ATTENTION = "attention"


class Activation(StrEnum):
    """Activation functions of the feed-forward block, by their Hugging Face names."""

    GELU = "gelu"
    GELU_NEW = "gelu_new"
    RELU = "relu"
    SILU = "silu"


MOST = 2**31 - 1
"""What sizes are counted up to."""


def _check_whole(name: str, value: object, least: int) -> None:
    """Raise ValueError of what is no whole number in this range."""
    if type(value) is not int or not least <= value <= MOST:
        raise ValueError(f"{name} must be a whole number from {least} on, not {value!r}")


def _check_small(name: str, value: object) -> None:
    """Raise ValueError of what is no number between 0 and 1."""
    if not isinstance(value, float) or not 0 < value < 1:
        raise ValueError(f"{name} must be a number above 0 and below 1, not {value!r}")


def _known_fields(kind: type, values: Mapping[str, Any]) -> Mapping[str, Any]:
    names = {field.name for field in fields(kind)}
    if unknown := sorted(values.keys() - names):
        raise ValueError(f"unknown keys {unknown}; known are {sorted(names)}")
    if missing := sorted(names - values.keys()):
        raise ValueError(f"missing keys {missing}")
    return values


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Sizes of a post-norm transformer encoder of the BERT family.

    `position_offset` is the position of a row's first token (RoBERTa counts from 2), and
    `token_types` is 0 where the family has no token-type embedding (DistilBERT).
    """

    family: str
    vocab_size: int
    embedding_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    positions: int
    position_offset: int
    token_types: int
    activation: Activation
    layer_norm_eps: float

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "embedding_size", "hidden_size", "intermediate_size")
        for name in (*sizes, "layers", "heads", "positions"):
            _check_whole(name, getattr(self, name), 1)
        for name in ("position_offset", "token_types"):
            _check_whole(name, getattr(self, name), 0)
        _check_small("layer_norm_eps", self.layer_norm_eps)
        if self.hidden_size % self.heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}"
            )

    @property
    def token_limit(self) -> int:
        """Longest row in tokens that the position embeddings reach."""
        return self.positions - self.position_offset

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the JSON form; raises ValueError on unknown, missing or impossible values."""
        known = dict(_known_fields(cls, values))
        known["activation"] = Activation(known["activation"])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A multi-exit classifier: `exit_layers` holds, per exit, the number of layers run before it.

    The last exit is always after the last layer, so every request is answered. `pairs` tells
    whether it was trained on pairs of texts; None where that is not known.
    """

    encoder: EncoderConfig
    labels: tuple[str, ...]
    exit_layers: tuple[int, ...]
    pooling: Pooling
    max_tokens: int
    pairs: bool | None = None

    def __post_init__(self) -> None:
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels must be two or more different names, not {self.labels}")
        if self.pairs is not None and type(self.pairs) is not bool:
            raise ValueError(f"pairs must be true, false or null, not {self.pairs!r}")
        layers = self.exit_layers
        for number in (*layers, self.max_tokens):
            _check_whole("exit layers and max_tokens", number, 1)
        if not layers or list(layers) != sorted(set(layers)) or layers[0] < 1:
            raise ValueError(f"exit layers must ascend from 1 or more, not {layers}")
        if layers[-1] != self.encoder.layers:
            raise ValueError(
                f"the last exit must be after the last layer, {self.encoder.layers}, not {layers}"
            )
        if not 3 <= self.max_tokens <= self.encoder.token_limit:
            raise ValueError(
                f"max_tokens must be in 3 to {self.encoder.token_limit}, not {self.max_tokens}"
            )

    @property
    def exits(self) -> int:
        """Number of exits, which is also the number of stages."""
        return len(self.exit_layers)

    def stage_layers(self, stage: int) -> range:
        """Indices of the layers that run between the exit before `stage` and its own."""
        first = self.exit_layers[stage - 1] if stage else 0
        return range(first, self.exit_layers[stage])

    def to_dict(self) -> dict[str, Any]:
        """The JSON form that `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the JSON form; raises ValueError on unknown, missing or impossible values."""
        known = dict(_known_fields(cls, {"pairs": None, **values}))
        known["encoder"] = EncoderConfig.from_dict(known["encoder"])
        known["labels"] = tuple(known["labels"])
        if not all(isinstance(label, str) for label in known["labels"]):
            raise ValueError(f"labels must be names, not {known['labels']}")
        known["exit_layers"] = tuple(known["exit_layers"])
        known["pooling"] = Pooling(known["pooling"])
        return cls(**known)
