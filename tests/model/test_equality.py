"""Packed hidden states equal those of transformers' own forward, every layer, every family."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
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


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_of_a_mixed_batch(family: str, tmp_path: Path) -> None:
    config: PreTrainedConfig = FAMILIES[family]
    torch.manual_seed(0)
    theirs: Any = AutoModel.from_config(config).eval()  # type: ignore[no-untyped-call]
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    theirs.save_pretrained(tmp_path)
    words = Tokenizer(models.WordLevel({str(i): i for i in range(VOCABULARY)}, unk_token="0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="0")  # type: ignore[no-untyped-call]
    fast.save_pretrained(tmp_path)

    encoder = load_pretrained(str(tmp_path)).encoder().eval()
    draw = random.Random(0)
    rows = [[draw.randrange(5, VOCABULARY) for _ in range(n)] for n in (7, 1, 64, 7, 20, 33)]
    tokens = [Tokens(tuple(row), (0,) * len(row), truncated=False) for row in rows]
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
