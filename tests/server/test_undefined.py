"""Numbers beyond the model's: an input that makes them gets an error and harms nobody."""

import asyncio
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny import tiny_checkpoint, word

from offramp.client import Answer, AsyncClient, DeadlineAction, ServerFailedError
from offramp.client.options import Options
from offramp.server.app import App
from offramp.server.config import ServerConfig

WEIGHTS = "model.safetensors"


@pytest.mark.parametrize(
    "options",
    [
        Options(threshold=0.6),
        Options(threshold=1.0),
        Options(min_exit=2, deadline_action=DeadlineAction.FAIL),  # earlier exits are not read
    ],
)
async def test_an_input_whose_numbers_overflow_fails_alone(
    options: Options, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "overflowing")
    weights = {name: weight.float() for name, weight in load_file(checkpoint / WEIGHTS).items()}
    weights["encoder.embeddings.word.weight"][word("poison")] = 3e38
    save_file(weights, checkpoint / WEIGHTS)
    app = App(ServerConfig("127.0.0.1:0", (checkpoint,), workers=1))
    texts = ["fine film", "hard film", "poison film", "easy", "fine fine film"]
    async with AsyncClient(await app.start()) as client:

        async def ask(text: str) -> Answer | ServerFailedError:
            try:
                return await client.classify(text, **options)
            except ServerFailedError as error:
                return error

        alone = [await ask(text) for text in texts]
        together = await asyncio.gather(*map(ask, texts))
    await app.stop()
    for said in (alone, together):
        assert [
            text for text, one in zip(texts, said, strict=True) if not isinstance(one, Answer)
        ] == ["poison film"]
    for one, other in zip(alone, together, strict=True):
        if isinstance(one, Answer):
            assert isinstance(other, Answer)
            assert other.label == one.label
            assert other.confidence == pytest.approx(one.confidence, abs=1e-5)
