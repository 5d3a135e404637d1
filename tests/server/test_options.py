"""What may be asked for, a request or an input at a time, and what models tell of themselves."""

import asyncio
from pathlib import Path

import pytest
from service import PATIENCE, WordBackend, eventually, word_service
from tiny import MAX_TOKENS, TABLE, tiny_checkpoint, word
from wire import unary, wire

from offramp.client import (
    AsyncClient,
    DeadlineAction,
    DeadlineExceededError,
    ExitReason,
    Options,
    Priority,
)
from offramp.model.tokenizer import Tokens
from offramp.server.app import App
from offramp.server.config import Limits, ServerConfig
from offramp.v1 import classification_pb2 as pb


@pytest.mark.parametrize(
    ("options", "exit_", "reason"),
    [
        ({}, 2, ExitReason.CONFIDENT),  # .6 .7 .8 of the default threshold, .75
        ({"threshold": 0.7}, 1, ExitReason.CONFIDENT),
        ({"threshold": 0.0}, 0, ExitReason.CONFIDENT),
        ({"threshold": 1.0}, 2, ExitReason.FINAL),
        ({"threshold": 0.0, "min_exit": 1}, 1, ExitReason.CONFIDENT),
        ({"threshold": 0.9, "max_exit": 1}, 1, ExitReason.LIMIT),
        ({"threshold": 0.9, "min_exit": 1, "max_exit": 1}, 1, ExitReason.LIMIT),
        ({"max_accuracy_drop": 0.02}, 1, ExitReason.CONFIDENT),
        ({"max_accuracy_drop": 0.0}, 2, ExitReason.CONFIDENT),
    ],
)
async def test_where_a_request_leaves(
    options: Options, exit_: int, reason: ExitReason, tmp_path: Path
) -> None:
    async with word_service(tmp_path) as service:
        answer = await service.client.classify("fine film", **options)
        assert (answer.exit, answer.reason) == (exit_, reason)
        assert (answer.layer, answer.exits, answer.layers) == (exit_ + 1, 3, 3)
        assert answer.confidence == pytest.approx(0.6 + exit_ / 10)
        assert answer.tokens == 4
        assert answer.probabilities == ()


async def test_probabilities_pairs_and_truncation(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service:
        answer = await service.client.classify("easy", all_probabilities=True)
        assert answer.probabilities == pytest.approx((0.1, 0.9))
        assert (answer.label, answer.label_index) == ("yes", 1)
        pair = await service.client.classify("fine film", "easy hard")
        assert (pair.tokens, pair.truncated) == (7, False)
        assert service.backend.batches[-1].requests[0].payload == tokens_of_pair()
        long = await service.client.classify("film " * 40, "fine")
        assert (long.tokens, long.truncated) == (MAX_TOKENS, True)


def tokens_of_pair() -> object:
    names = ("[CLS]", "fine", "film", "[SEP]", "easy", "hard", "[SEP]")
    return Tokens.of(map(word, names), (0, 0, 0, 0, 1, 1, 1))


async def test_an_input_overrides_its_message_field_by_field(tmp_path: Path) -> None:
    request = unary("hard", "hard", options=pb.ClassifyOptions(threshold=0.0, min_exit=1))
    request.inputs[1].options.max_accuracy_drop = 0.0
    async with word_service(tmp_path) as service, wire(service.address) as raw:
        results = (await raw.classifier.ClassifyText(request)).results
        assert [result.classification.exit.index for result in results] == [1, 2]
        assert [result.classification.threshold for result in results] == [0.0, 0.75]


async def test_interactive_goes_first_and_streams_are_bulk(tmp_path: Path) -> None:
    async with word_service(tmp_path, Limits(max_batch_rows=1)) as service:
        client = service.client
        calls = [asyncio.ensure_future(client.classify("plug", threshold=0))]
        await service.backend.is_plugged()
        stream = client.classify_many(["easy"])
        waiting = asyncio.ensure_future(anext(stream))
        await eventually(lambda: service.held[0] == 1)
        calls += [
            asyncio.ensure_future(client.classify("easy", priority=priority))
            for priority in (Priority.BULK, Priority.INTERACTIVE)
        ]
        await eventually(lambda: service.held[0] == 3)
        service.backend.unplug()
        await asyncio.gather(waiting, *calls)
        ran = [batch.requests[0].terms.priority.name for batch in service.backend.batches]
        assert ran == ["INTERACTIVE", "INTERACTIVE", "BULK", "BULK"]


@pytest.mark.parametrize("action", DeadlineAction)
async def test_at_the_deadline_the_best_answer_so_far_or_none(
    action: DeadlineAction, tmp_path: Path
) -> None:
    async with word_service(tmp_path) as service:
        for _ in range(300):
            service.scheduler.cost.observe(2, 1, 3, 2 * PATIENCE)  # the last stage is out of reach
        call = service.client.classify(
            "hard", threshold=1, timeout=PATIENCE, deadline_action=action
        )
        if action is DeadlineAction.BEST_ANSWER:
            answer = await call
            assert (answer.exit, answer.reason) == (1, ExitReason.DEADLINE)
            assert answer.confidence == pytest.approx(0.7)
        else:
            with pytest.raises(DeadlineExceededError, match="before a confident answer"):
                await call
        assert service.held == (0, 0)
        assert [batch.stage for batch in service.backend.batches] == [0, 1]


async def test_two_models_in_one_server(tmp_path: Path) -> None:
    checkpoints = (
        tiny_checkpoint(tmp_path / "films"),
        tiny_checkpoint(tmp_path / "mails", labels=("ham", "spam", "unsure")),
    )
    app = App(ServerConfig("127.0.0.1:0", checkpoints), make_backend=WordBackend)
    address = await app.start()
    async with AsyncClient(address) as client:
        models = await client.list_models()
        assert [model.name for model in models] == ["films", "mails"]
        assert await client.get_model() == models[0]
        assert await client.get_model("mails") == models[1]
        assert (await client.classify("easy")).model == "films"
        other = await client.classify("easy", model="mails")
        assert (other.model, other.label) == ("mails", "spam")
        request = unary("easy", "easy")
        request.inputs[1].options.model = "mails"
        async with wire(address) as raw:
            results = (await raw.classifier.ClassifyText(request)).results
        assert [result.classification.label for result in results] == ["yes", "spam"]
    await app.stop()


async def test_a_model_tells_all_that_a_client_may_ask_for(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service:
        (model,) = await service.client.list_models()
        assert (model.name, model.labels, model.layers) == ("words", ("no", "yes"), 3)
        assert model.exit_layers == (1, 2, 3)
        assert model.temperatures == (1.0, 1.0, 1.0)
        assert (model.token_limit, model.default_threshold) == (MAX_TOKENS, 0.75)
        told = [(point.threshold, point.accuracy_drop) for point in model.trade_offs]
        assert told == [(point.threshold, point.accuracy_drop) for point in TABLE]
