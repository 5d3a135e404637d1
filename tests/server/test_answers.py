"""What a client reads of answers and models is what the server has."""

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from tiny import TABLE, tiny_checkpoint

from offramp.client import ExitReason as ClientExitReason
from offramp.client.core import answer_of, model_info
from offramp.model.checkpoint import Checkpoint, load_checkpoint
from offramp.model.tokenizer import Tokens
from offramp.scheduler.reading import Reading
from offramp.scheduler.request import Answer, ExitReason, Terms
from offramp.server.prepare import Prepared
from offramp.server.served import ServedModel
from offramp.server.wire import fill, model_message
from offramp.v1 import classifier_service_pb2 as pb


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    """With exits after the first layer and the third."""
    return load_checkpoint(tiny_checkpoint(tmp_path / "words", exit_layers=(1, 3)))


def test_an_answer_travels_whole(checkpoint: Checkpoint) -> None:
    model = cast("ServedModel", SimpleNamespace(checkpoint=checkpoint))
    terms = Terms(threshold=0.75, min_exit=0, max_exit=1)
    prepared = Prepared(model, Tokens.of((1, 2, 3)), terms, True, 0.0, None)  # noqa: FBT003
    reading = Reading(1, 0.875, (0.125, 0.875))
    answer = Answer(reading, 1, ExitReason.OVERLOAD, 1.25, 62.5, 3600.5, 0.625)
    response = pb.ClassifyTextResponse()
    fill(response.results.add(), (prepared, answer))
    said = answer_of(response)
    assert (said.label, said.confidence, said.probabilities) == ("yes", 0.875, (0.125, 0.875))
    assert (said.exit, said.exits, said.layer, said.layers) == (1, 2, 3, 3)
    assert (said.reason, said.threshold) == (ClientExitReason.OVERLOAD, 0.625)
    assert (said.timing.queue, said.timing.compute, said.timing.total) == (1.25, 62.5, 3600.5)
    assert (said.model, said.tokens, said.truncated) == ("words", 3, False)


def test_trade_offs_travel_whole(checkpoint: Checkpoint) -> None:
    found = [asdict(point) for point in model_info(model_message(checkpoint)).trade_offs]
    assert found == [{name: asdict(point)[name] for name in found[0]} for point in TABLE]
