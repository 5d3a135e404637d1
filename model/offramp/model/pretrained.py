"""Pretrained Hugging Face encoders, by directory or hub name, as our own packed encoder.

`transformers` reads the files (safetensors only: a pickle can run code), we rename the weights.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig
from transformers.utils import logging as transformers_logging

from offramp.model.checkpoint import Checkpoint, load_checkpoint
from offramp.model.config import Activation, EncoderConfig
from offramp.model.directory import is_checkpoint
from offramp.model.encoder import Encoder
from offramp.model.errors import UnsupportedEncoderError


@dataclass(frozen=True, slots=True)
class PretrainedEncoder:
    """An encoder's shape, weights (by our names), tokenizer definition and shared pooler if any."""

    config: EncoderConfig
    weights: dict[str, Tensor]
    tokenizer: str
    pooler: dict[str, Tensor] | None

    def encoder(self, dropout: float = 0.0) -> Encoder:
        """A module of its own with these weights."""
        module = Encoder(self.config, dropout)
        module.load_state_dict(self.weights)
        return module


BERT_LAYER = {
    "attention_out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm": "output.LayerNorm",
}
BERT_QKV = ("attention.self.query", "attention.self.key", "attention.self.value")
DISTILBERT_LAYER = {
    "attention_out": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "up": "ffn.lin1",
    "down": "ffn.lin2",
    "norm": "output_layer_norm",
}
DISTILBERT_QKV = ("attention.q_lin", "attention.k_lin", "attention.v_lin")
POOLER = "pooler."
"""Weights that many encoders come without; then there is none to start from."""

FAMILIES = ("bert", "roberta", "distilbert", "electra")


def load_pretrained(name: str) -> PretrainedEncoder:
    """Load an encoder from a checkpoint directory, Hugging Face's or ours, or a hub name.

    Raises UnsupportedEncoderError where the family, an option or the file format is not ours.
    """
    if is_checkpoint(Path(name)):
        return _encoder_of(load_checkpoint(Path(name)))
    if _meant_here(name) and not Path(name).is_dir():
        raise UnsupportedEncoderError(f"cannot load the encoder {name!r}: no such directory")
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        config = AutoConfig.from_pretrained(name)
        shape = encoder_config(config)
        model, told = AutoModel.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(name, use_fast=True)
    except UnsupportedEncoderError:
        raise
    except Exception as error:
        cause = str(error).partition("\n")[0]
        raise UnsupportedEncoderError(f"cannot load the encoder {name!r}: {cause}") from error
    missing = sorted(key for key in told["missing_keys"] if not key.startswith(POOLER))
    if missing:
        raise UnsupportedEncoderError(
            f"the files of the encoder {name!r} lack {len(missing)} of its weights, such as"
            f" {missing[0]}; its config may be another model's"
        )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UnsupportedEncoderError(f"{name!r} has no fast tokenizer (tokenizer.json)")
    ids = backend.get_vocab(with_added_tokens=True).values()
    if len(ids) <= len(tokenizer.all_special_ids):  # as transformers makes one of no file
        raise UnsupportedEncoderError(
            f"the encoder {name!r} has no vocabulary: its tokenizer.json or vocab.txt is missing"
        )
    if max(ids) >= shape.vocab_size:
        raise UnsupportedEncoderError(
            f"the tokenizer of the encoder {name!r} has ids up to {max(ids)}, its embeddings are"
            f" {shape.vocab_size}; resize them to its tokens"
        )
    state = model.state_dict()
    pooler = (
        {part: state[f"pooler.dense.{part}"] for part in ("weight", "bias")}
        if "pooler.dense.weight" in state and "pooler.dense.weight" not in told["missing_keys"]
        else None
    )
    return PretrainedEncoder(shape, rename_weights(shape, state), backend.to_str(), pooler)


def _meant_here(name: str) -> bool:
    """Whether a name is a path, not the hub's: it begins as one, or other encoders lie there."""
    first, slash, _ = name.partition("/")
    return name.startswith((".", "/", "~")) or (
        bool(slash) and any(Path(first).glob("*/config.json"))
    )


def _encoder_of(checkpoint: Checkpoint) -> PretrainedEncoder:
    model = checkpoint.model
    return PretrainedEncoder(
        config=checkpoint.config.encoder,
        weights=dict(model.encoder.state_dict()),
        tokenizer=checkpoint.tokenizer.definition,
        pooler=None if model.pooler is None else dict(model.pooler.state_dict()),
    )


def encoder_config(config: PreTrainedConfig) -> EncoderConfig:
    """Our shape of a Hugging Face config; raises UnsupportedEncoderError where there is none."""
    values: dict[str, Any] = config.to_dict()
    family = config.model_type
    if family not in FAMILIES:
        raise UnsupportedEncoderError(
            f"encoder family {family!r} is not supported; use one of {', '.join(FAMILIES)} "
            "(MiniLM is bert)"
        )
    if values.get("position_embedding_type", "absolute") != "absolute" or values.get("is_decoder"):
        raise UnsupportedEncoderError("only encoders with absolute positions are supported")
    distil = family == "distilbert"
    hidden_size = values["dim" if distil else "hidden_size"]
    activation = values["activation" if distil else "hidden_act"]
    if activation not in list(Activation):
        raise UnsupportedEncoderError(
            f"activation {activation!r} is not supported; use one of {', '.join(Activation)}"
        )
    return EncoderConfig(
        family=family,
        vocab_size=values["vocab_size"],
        embedding_size=values.get("embedding_size", hidden_size),
        hidden_size=hidden_size,
        intermediate_size=values["hidden_dim" if distil else "intermediate_size"],
        layers=values["n_layers" if distil else "num_hidden_layers"],
        heads=values["n_heads" if distil else "num_attention_heads"],
        positions=values["max_position_embeddings"],
        position_offset=values["pad_token_id"] + 1 if family == "roberta" else 0,
        token_types=0 if distil else values["type_vocab_size"],
        activation=Activation(activation),
        layer_norm_eps=values.get("layer_norm_eps", 1e-12),
    )


def rename_weights(shape: EncoderConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of `Encoder` from that of the Hugging Face base model of the same shape."""
    distil = shape.family == "distilbert"
    prefix = "transformer.layer" if distil else "encoder.layer"
    layer_names, qkv = (DISTILBERT_LAYER, DISTILBERT_QKV) if distil else (BERT_LAYER, BERT_QKV)
    weights = {
        "embeddings.word.weight": state["embeddings.word_embeddings.weight"],
        "embeddings.position.weight": state["embeddings.position_embeddings.weight"],
    }
    if shape.token_types:
        weights["embeddings.token_type.weight"] = state["embeddings.token_type_embeddings.weight"]
    for part in ("weight", "bias"):
        weights[f"embeddings.norm.{part}"] = state[f"embeddings.LayerNorm.{part}"]
        if shape.embedding_size != shape.hidden_size:
            weights[f"embeddings.project.{part}"] = state[f"embeddings_project.{part}"]
        for index in range(shape.layers):
            theirs, ours = f"{prefix}.{index}", f"layers.{index}"
            weights[f"{ours}.qkv.{part}"] = torch.cat(
                [state[f"{theirs}.{name}.{part}"] for name in qkv]
            )
            for name, their_name in layer_names.items():
                weights[f"{ours}.{name}.{part}"] = state[f"{theirs}.{their_name}.{part}"]
    return weights
