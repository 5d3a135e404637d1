"""Packed hidden states equal those of transformers' own forward, every layer, every family."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModel,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from offramp.model.errors import UnsupportedEncoderError
from offramp.model.packing import PackedTokens
from offramp.model.pretrained import load_pretrained
from offramp.model.tokenizer import Tokens

VOCABULARY = 200
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 80,
}
FAMILIES = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES, type_vocab_size=1),
    "electra": ElectraConfig(**SIZES, embedding_size=24),
    "distilbert": DistilBertConfig(
        vocab_size=VOCABULARY,
        dim=48,
        n_layers=4,
        n_heads=4,
        hidden_dim=96,
        max_position_embeddings=80,
    ),
}


def saved(config: PreTrainedConfig, directory: Path) -> Any:  # noqa: ANN401
    """A random encoder of this shape in a directory, with a tokenizer of numbers."""
    torch.manual_seed(0)
    model: Any = AutoModel.from_config(config).eval()  # type: ignore[no-untyped-call]
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(directory)
    words = Tokenizer(models.WordLevel({str(i): i for i in range(VOCABULARY)}, unk_token="0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="0")  # type: ignore[no-untyped-call]
    fast.save_pretrained(directory)
    return model


@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize("change", ["renamed", "deeper", "torn", "no tokenizer"])
def test_an_encoder_that_is_not_whole_is_refused(family: str, change: str, tmp_path: Path) -> None:
    saved(FAMILIES[family], tmp_path)
    weights = tmp_path / "model.safetensors"
    match change:
        case "renamed":
            state = {f"prefix.{name}": value for name, value in load_file(weights).items()}
            save_file(state, weights, metadata={"format": "pt"})
        case "deeper":
            config = json.loads((tmp_path / "config.json").read_text())
            config["n_layers" if family == "distilbert" else "num_hidden_layers"] += 2
            (tmp_path / "config.json").write_text(json.dumps(config))
        case "torn":
            weights.write_bytes(weights.read_bytes()[:100])
        case _:
            (tmp_path / "tokenizer.json").write_text("{}")
    told = "lack [0-9]+ of its weights" if change in ("renamed", "deeper") else "cannot load"
    with pytest.raises(UnsupportedEncoderError, match=told):
        load_pretrained(str(tmp_path))


def test_an_encoder_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    saved(FAMILIES["bert"], tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    with pytest.raises(UnsupportedEncoderError, match="has no vocabulary"):
        load_pretrained(str(tmp_path))


def test_a_tokenizer_of_more_ids_than_embeddings_is_refused(tmp_path: Path) -> None:
    saved(FAMILIES["bert"], tmp_path)
    path = tmp_path / "tokenizer.json"
    definition = json.loads(path.read_text())
    definition["model"]["vocab"]["more"] = VOCABULARY
    path.write_text(json.dumps(definition))
    with pytest.raises(UnsupportedEncoderError, match=f"ids up to {VOCABULARY}, its embeddings"):
        load_pretrained(str(tmp_path))


def test_a_mistyped_path_is_no_name_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(FAMILIES["bert"], tmp_path / "encoders" / "minilm")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsupportedEncoderError, match="no such directory"):
        load_pretrained("encoders/minlm")


def test_a_pooler_that_the_files_lack_is_none(tmp_path: Path) -> None:
    saved(FAMILIES["bert"], tmp_path)
    assert load_pretrained(str(tmp_path)).pooler is not None
    weights = tmp_path / "model.safetensors"
    state = {name: one for name, one in load_file(weights).items() if "pooler" not in name}
    save_file(state, weights, metadata={"format": "pt"})
    assert load_pretrained(str(tmp_path)).pooler is None


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_of_a_mixed_batch(family: str, tmp_path: Path) -> None:
    theirs = saved(FAMILIES[family], tmp_path)
    encoder = load_pretrained(str(tmp_path)).encoder().eval()
    draw = random.Random(0)
    rows = [[draw.randrange(5, VOCABULARY) for _ in range(n)] for n in (7, 1, 64, 7, 20, 33)]
    tokens = [Tokens.of(row) for row in rows]
    packed = PackedTokens.of(tokens, torch.device("cpu"))
    with torch.inference_mode():
        hidden = encoder.embed(packed)
        ours = [hidden]
        for layer in range(4):
            hidden = encoder.layer(layer, hidden, packed.layout)
            ours.append(hidden)
        start = 0
        for row in rows:
            expected = theirs(torch.tensor([row]), output_hidden_states=True).hidden_states
            for layer, states in enumerate(ours):
                got, wanted = states[start : start + len(row)], expected[layer][0]
                error = (got - wanted).norm() / wanted.norm()
                assert error < 1e-4, (family, layer, len(row))
            start += len(row)
