"""A checkpoint small enough to make in a test: words are tokens, three exits, random weights."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from offramp.model.calibration import Calibration, TradeOff
from offramp.model.checkpoint import Checkpoint, save_checkpoint
from offramp.model.config import Activation, EncoderConfig, ModelConfig, Pooling
from offramp.model.exits import MultiExitModel
from offramp.model.tokenizer import TextTokenizer

MAX_TOKENS = 16
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
FILLERS = tuple(f"[unused{i}]" for i in range(MAX_TOKENS - len(SPECIALS)))
"""A server warms up with the first token ids."""

WORDS = (*SPECIALS, *FILLERS, "plug", "poison", "void", "easy", "hard", "fine", "film", "shift")

ENCODER = EncoderConfig(
    family="bert",
    vocab_size=len(WORDS),
    embedding_size=8,
    hidden_size=8,
    intermediate_size=16,
    layers=3,
    heads=2,
    positions=MAX_TOKENS,
    position_offset=0,
    token_types=2,
    activation=Activation.GELU,
    layer_norm_eps=1e-12,
)
TABLE = (
    TradeOff(0.65, 0.9, 0.01, 0.95, 1.2, 2.5, 0.02, 0.06),
    TradeOff(0.75, 0.92, 0.0, 1.0, 2.0, 1.5, 0.0, 0.01),
    TradeOff(1.0, 0.92, 0.0, 1.0, 3.0, 1.0, 0.0, 0.0),
)


def word(name: str) -> int:
    """The token id of a word."""
    return WORDS.index(name)


def tiny_checkpoint(
    directory: Path,
    labels: tuple[str, ...] = ("no", "yes"),
    exit_layers: tuple[int, ...] = (1, 2, 3),
) -> Path:
    """Write it and give the directory back."""
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", word("[CLS]")), ("[SEP]", word("[SEP]"))],
    )
    torch.manual_seed(0)
    config = ModelConfig(ENCODER, labels, exit_layers, Pooling.MEAN, MAX_TOKENS)
    tokenizer = TextTokenizer(words.to_str(), MAX_TOKENS)
    calibration = Calibration((1.0,) * len(exit_layers), 0.75, TABLE)
    checkpoint = Checkpoint(directory.name, config, MultiExitModel(config), tokenizer, calibration)
    save_checkpoint(checkpoint, directory)
    return directory
