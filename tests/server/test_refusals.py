"""Every refusal and failure as it travels: status code, reason, details, never a stack trace."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Sequence
from math import nan
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, ResourceInfo, RetryInfo
from google.rpc.status_pb2 import Status
from service import PATIENCE, WordBackend, eventually, word_service
from tiny import tiny_checkpoint
from wire import detail, metadata_of, reason, status_of, streamed, unary, wire

from offramp.client import AsyncClient, InvalidRequestError, ModelNotFoundError, Text
from offramp.model.tokenizer import TextTokenizer
from offramp.server.app import App
from offramp.server.config import Limits, ServerConfig
from offramp.server.statuses import LONGEST_MESSAGE, LONGEST_NAME
from offramp.v1 import classification_pb2 as pb
from offramp.v1 import classifier_service_pb2 as service_pb
from offramp.v1 import model_service_pb2 as models_pb

Code = grpc.StatusCode
Options = pb.ClassifyOptions


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (unary(), "inputs"),
        (unary(*["fine"] * 257), "inputs"),
        (unary(""), "text"),
        (unary(" \n\t "), "text"),
        (unary("\x00\x01\x85"), "text"),
        (unary("fine", options=Options(threshold=1.5)), "options.threshold"),
        (unary("fine", options=Options(threshold=nan)), "options.threshold"),
        (unary("fine", options=Options(max_accuracy_drop=-0.1)), "options.max_accuracy_drop"),
        (unary("fine", options=Options(max_accuracy_drop=1.1)), "options.max_accuracy_drop"),
        (unary("fine", options=Options(max_accuracy_drop=nan)), "options.max_accuracy_drop"),
        (unary("fine", options=Options(min_exit=3)), "options.min_exit"),
        (unary("fine", options=Options(max_exit=3)), "options.max_exit"),
        (unary("fine", options=Options(min_exit=2, max_exit=1)), "options.min_exit"),
        (unary("fine", options=Options(priority=9)), "options.priority"),  # type: ignore[arg-type]
        (unary("fine", options=Options(deadline_action=9)), "options.deadline_action"),  # type: ignore[arg-type]
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_impossible_request_names_its_field(
    request_: service_pb.ClassifyTextRequest, field: str, tmp_path: Path
) -> None:
    async with word_service(tmp_path) as service, wire(service.address) as raw:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await raw.classifier.ClassifyText(request_)
    status = status_of(refused.value)
    assert refused.value.code() is Code.INVALID_ARGUMENT
    assert status.message == refused.value.details()
    assert reason(status) == "INVALID_REQUEST"
    (violation,) = detail(status, BadRequest).field_violations
    assert violation.field == field
    assert violation.description in status.message


async def test_an_unknown_model_is_a_resource_not_found(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service, wire(service.address) as raw:
        for call in (
            raw.classifier.ClassifyText(unary("fine", options=Options(model="other"))),
            raw.models.GetModel(models_pb.GetModelRequest(name="other")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            status = status_of(refused.value)
            assert refused.value.code() is Code.NOT_FOUND
            assert reason(status) == "MODEL_NOT_FOUND"
            resource = detail(status, ResourceInfo)
            assert (resource.resource_type, resource.resource_name) == ("model", "other")
            assert "words" in status.message


@pytest.mark.parametrize("letter", ["x", "é", "\N{PILE OF POO}", "\x00", "%"])
async def test_a_name_without_end_is_told_in_part(letter: str, tmp_path: Path) -> None:
    name = letter * 10_000
    async with word_service(tmp_path) as service, wire(service.address) as raw:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await raw.models.GetModel(models_pb.GetModelRequest(name=name))
        assert refused.value.code() is Code.NOT_FOUND
        status = status_of(refused.value)
        told = detail(status, ResourceInfo).resource_name
        assert letter * 40 in told
        assert len(told) <= LONGEST_NAME
        assert len(status.message) <= LONGEST_MESSAGE
        assert status.message.endswith("is served here; there are words")
        with pytest.raises(ModelNotFoundError, match="there are words"):
            await service.client.classify("fine", model=name)


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x04\x0a\x02\xc3\x28"])
@pytest.mark.parametrize("method", ["ClassifyText", "StreamClassifyText"])
async def test_undecodable_bytes_are_an_invalid_argument(
    data: bytes, method: str, tmp_path: Path
) -> None:
    async with word_service(tmp_path) as service, wire(service.address) as raw:
        path = f"/offramp.v1.ClassifierService/{method}"
        channel: Any = raw.channel
        calls: dict[str, Callable[[], Awaitable[bytes]]] = {
            "ClassifyText": lambda: channel.unary_unary(path)(data),
            "StreamClassifyText": lambda: channel.stream_stream(path)(iter([data])).read(),
        }
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await calls[method]()
        assert refused.value.code() is Code.INVALID_ARGUMENT
        assert reason(status_of(refused.value)) == "UNDECODABLE"
        assert (await service.client.classify("easy")).label == "yes"


async def test_a_message_that_is_too_large_is_refused_in_words(tmp_path: Path) -> None:
    async with (
        word_service(tmp_path, max_message_bytes=1000) as service,
        wire(service.address) as raw,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await raw.classifier.ClassifyText(unary("fine " * 300))
        assert refused.value.code() is Code.INVALID_ARGUMENT
        assert reason(status_of(refused.value)) == "MESSAGE_TOO_LARGE"
        assert "at most 1000" in status_of(refused.value).message
        with pytest.raises(grpc.aio.AioRpcError, match="larger than max"):
            await raw.classifier.ClassifyText(unary("fine " * 3000))
        assert (await service.client.classify("fine " * 100)).truncated


OPTIONS = service_pb.ClassifyTextRequest(
    options=pb.ClassifyOptions(all_probabilities=True)
).SerializeToString()


@pytest.mark.parametrize("method", ["ClassifyText", "StreamClassifyText"])
async def test_a_message_of_countless_empty_inputs_is_not_read(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offramp.server.services.MOST_FIELDS", 1000)
    async with word_service(tmp_path) as service, wire(service.address) as raw:
        path = f"/offramp.v1.ClassifierService/{method}"
        channel: Any = raw.channel

        async def send(data: bytes) -> bytes:
            if method == "ClassifyText":
                return cast("bytes", await channel.unary_unary(path)(data))
            return cast("bytes", await channel.stream_stream(path)(iter([data])).read())

        with pytest.raises(grpc.aio.AioRpcError, match="more than 1000 inputs") as refused:
            await send(b"\x0a\x00" * 1002)
        assert reason(status_of(refused.value)) == "MESSAGE_TOO_LARGE"
        if method == "ClassifyText":  # as many are read, and then are too many for one call
            with pytest.raises(grpc.aio.AioRpcError, match="1 to 256 texts, not 1000"):
                await send(b"\x0a\x00" * 1000 + OPTIONS)
        else:
            assert len(await send(b"\x0a\x00" * 1000 + OPTIONS)) > 1000


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a\x05" * 2000,
        b"\xff" * 2**21,  # a number of megabits
        b"\x0b" * 900 + b"\x0a\xff\xff\x7f" + b"\x00" * 3000,
    ],
    ids=["cut", "endless", "beyond"],
)
async def test_fields_that_end_too_soon_cannot_be_decoded(data: bytes, tmp_path: Path) -> None:
    async with word_service(tmp_path, max_inputs=1) as service, wire(service.address) as raw:
        channel: Any = raw.channel
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/offramp.v1.ClassifierService/ClassifyText")(
                data, timeout=PATIENCE
            )
        assert reason(status_of(refused.value)) == "UNDECODABLE"


@pytest.mark.parametrize("trained", ["pairs", "single texts"])
async def test_a_model_of_pairs_reads_pairs_and_no_other(trained: str, tmp_path: Path) -> None:
    directory, pairs = tiny_checkpoint(tmp_path / "words"), trained == "pairs"
    config = json.loads((directory / "config.json").read_text())
    config["model"]["pairs"] = pairs
    (directory / "config.json").write_text(json.dumps(config))
    app = App(ServerConfig("127.0.0.1:0", (directory,)), make_backend=WordBackend)
    async with AsyncClient(await app.start()) as client:
        texts: list[Text] = ["easy", ("easy", "film"), ("easy", "")]
        said = [one async for one in client.classify_many(texts, return_errors=True)]
    await app.stop()
    refused = [isinstance(one, InvalidRequestError) for one in said]
    assert refused == ([True, False, False] if pairs else [False, True, True])
    assert f"the model was trained on {trained}" in str(said[0 if pairs else 1])


async def test_a_failing_step_fails_its_own_requests_and_tells_nothing(tmp_path: Path) -> None:
    limits = Limits(max_batch_rows=1)
    async with word_service(tmp_path, limits) as service, wire(service.address) as raw:
        response = await raw.classifier.ClassifyText(unary("fine", "poison", "easy"))
        outcomes = [result.WhichOneof("outcome") for result in response.results]
        assert outcomes == ["classification", "error", "classification"]
        assert_step_failed(response.results[1].error)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await raw.classifier.ClassifyText(unary("poison"))
        assert failed.value.code() is Code.INTERNAL
        assert_step_failed(status_of(failed.value))
        await eventually(lambda: service.held == (0, 0))


def assert_step_failed(status: Status) -> None:
    assert status.code == Code.INTERNAL.value[0]
    assert reason(status) == "STEP_FAILED"
    wired = status.SerializeToString()
    assert b"secret" not in wired
    assert b"Traceback" not in wired


async def test_what_a_full_queue_refuses_is_not_tokenized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(slots=1, max_batch_rows=1, max_queue_requests=1)
    async with word_service(tmp_path, limits) as service, wire(service.address) as raw:
        held = [asyncio.ensure_future(raw.classifier.ClassifyText(unary("plug")))]
        await service.backend.is_plugged()
        held.append(asyncio.ensure_future(raw.classifier.ClassifyText(unary("fine"))))
        await eventually(lambda: service.held == (1, 1))
        seen: list[object] = []
        encode = TextTokenizer.encode

        def noted(tokenizer: TextTokenizer, inputs: Sequence[tuple[str, str | None]]) -> Any:  # noqa: ANN401
            seen.extend(inputs)
            return encode(tokenizer, inputs)

        monkeypatch.setattr(TextTokenizer, "encode", noted)
        for text in ("easy", "easy " * 2000):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await raw.classifier.ClassifyText(unary(text))
            assert reason(status_of(refused.value)) == "QUEUE_FULL"
        assert not seen
        service.backend.unplug()
        await asyncio.gather(*held)
        await raw.classifier.ClassifyText(unary("easy"))
        assert seen == [("easy", None)]


async def test_texts_on_their_way_to_the_queue_count_as_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    encode = TextTokenizer.encode

    def slow(tokenizer: TextTokenizer, inputs: Sequence[tuple[str, str | None]]) -> Any:  # noqa: ANN401
        assert go.wait(PATIENCE)
        return encode(tokenizer, inputs)

    limits = Limits(max_queue_requests=3)
    async with word_service(tmp_path, limits) as service, wire(service.address) as raw:
        monkeypatch.setattr(TextTokenizer, "encode", slow)
        model = service.app.models.get("")
        long = unary("easy " * 2000)
        held = [asyncio.ensure_future(raw.classifier.ClassifyText(long)) for _ in range(3)]
        await eventually(lambda: model.waiting == 3)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await raw.classifier.ClassifyText(long)
        assert reason(status_of(refused.value)) == "QUEUE_FULL"
        go.set()
        await asyncio.gather(*held)
        assert model.waiting == 0


async def test_a_full_queue_says_when_to_come_again(tmp_path: Path) -> None:
    limits = Limits(slots=1, max_batch_rows=1, max_queue_requests=2)
    async with word_service(tmp_path, limits) as service, wire(service.address) as raw:
        held = [asyncio.ensure_future(raw.classifier.ClassifyText(unary("plug")))]
        await service.backend.is_plugged()
        held += [asyncio.ensure_future(raw.classifier.ClassifyText(unary("fine"))) for _ in "ab"]
        await eventually(lambda: service.held == (2, 1))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await raw.classifier.ClassifyText(unary("easy"))
        status = status_of(refused.value)
        assert refused.value.code() is Code.RESOURCE_EXHAUSTED
        assert reason(status) == "QUEUE_FULL"
        delay = detail(status, RetryInfo).retry_delay.ToNanoseconds()
        pushback = int(metadata_of(refused.value)["grpc-retry-pushback-ms"])
        assert delay > 0
        assert pushback == max(1, delay // 1_000_000)
        service.backend.unplug()
        assert [len((await call).results) for call in held] == [1, 1, 1]


async def test_a_deadline_out_of_reach_is_refused_before_any_work(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service, wire(service.address) as raw:
        for stage in range(3):
            for _ in range(300):
                service.scheduler.cost.observe(stage, 1, 4, 60.0)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await raw.classifier.ClassifyText(unary("easy"), timeout=20)
        status = status_of(refused.value)
        assert refused.value.code() is Code.RESOURCE_EXHAUSTED
        assert reason(status) == "DEADLINE_UNREACHABLE"
        told = detail(status, ErrorInfo).metadata
        assert float(told["predicted_seconds"]) > float(told["remaining_seconds"]) > 0
        assert metadata_of(refused.value)["grpc-retry-pushback-ms"] == "-1"
        assert not service.backend.batches


async def test_inputs_of_one_message_fail_on_their_own(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service, wire(service.address) as raw:
        response = await raw.classifier.ClassifyText(unary("easy", "", "fine"))
        kinds = [result.WhichOneof("outcome") for result in response.results]
        assert kinds == ["classification", "error", "classification"]
        assert reason(response.results[1].error) == "INVALID_REQUEST"
        call = raw.classifier.StreamClassifyText()  # type: ignore[call-arg]
        await call.write(streamed([("a", "easy"), ("b", ""), ("c", "easy")]))
        await call.done_writing()
        kinds_by_id = {
            result.correlation_id: result.result.WhichOneof("outcome")
            async for message in call
            for result in message.results
        }
        assert kinds_by_id == {"a": "classification", "b": "error", "c": "classification"}
