"""The synchronous client, every public method, on threads as programs use it."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from math import inf
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio
from service import PATIENCE, WordService, eventually, word_service

from offramp.client import (
    Answer,
    AsyncClient,
    Client,
    DeadlineAction,
    ExitReason,
    InvalidRequestError,
    ModelNotFoundError,
    OfframpError,
    Priority,
    ServerFailedError,
    Text,
)

Result = TypeVar("Result")


@pytest_asyncio.fixture
async def service(tmp_path: Path) -> AsyncGenerator[WordService]:
    async with word_service(tmp_path) as service:
        yield service


async def use(service: WordService, program: Callable[[Client], Result]) -> Result:
    """Run a synchronous program with a client, beside the server's loop."""

    def run() -> Result:
        with Client(service.address, timeout=PATIENCE) as client:
            return program(client)

    return await asyncio.to_thread(run)


async def test_classify(service: WordService) -> None:
    def program(client: Client) -> None:
        answer = client.classify(
            "fine film",
            "easy",
            threshold=0.5,
            min_exit=1,
            max_exit=2,
            model="words",
            priority=Priority.BULK,
            deadline_action=DeadlineAction.FAIL,
            all_probabilities=True,
        )
        assert (answer.label, answer.exit, answer.reason) == ("yes", 1, ExitReason.CONFIDENT)
        assert (answer.tokens, len(answer.probabilities), answer.threshold) == (6, 2, 0.5)
        assert "yes" in repr(answer)
        with pytest.raises(AttributeError):
            answer.label = "no"  # type: ignore[misc]

    await use(service, program)


async def test_classify_many(service: WordService) -> None:
    texts: list[Text] = ["easy", ("hard", "film"), "fine"] * 200

    def program(client: Client) -> None:
        ordered = list(client.classify_many(texts))
        assert [answer.index for answer in ordered] == list(range(600))
        assert [answer.exit for answer in ordered] == [0, 2, 2] * 200
        unordered = list(client.classify_many(iter(texts), ordered=False, threshold=0.7))
        assert sorted(answer.index for answer in unordered) == list(range(600))
        assert {answer.threshold for answer in unordered} == {0.7}
        assert list(client.classify_many([])) == []

    await use(service, program)


async def test_models(service: WordService) -> None:
    def program(client: Client) -> None:
        (model,) = client.list_models()
        assert model == client.get_model() == client.get_model("words")
        with pytest.raises(ModelNotFoundError, match="'other'"):
            client.get_model("other")

    await use(service, program)


async def test_errors_of_classify_many(service: WordService) -> None:
    texts = ["easy", "", "lone \udc80", "easy"]

    def program(client: Client) -> None:
        outcomes = list(client.classify_many(texts, return_errors=True))
        assert [type(outcome) for outcome in outcomes] == [
            Answer,
            InvalidRequestError,
            InvalidRequestError,
            Answer,
        ]
        assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3]
        answers = client.classify_many(texts)
        assert next(answers).index == 0
        with pytest.raises(InvalidRequestError, match="empty") as raised:
            next(answers)
        assert raised.value.index == 1
        with pytest.raises(ServerFailedError):
            client.classify("poison")

    await use(service, program)


async def test_programming_errors_are_told_before_any_call(service: WordService) -> None:
    def program(client: Client) -> None:
        with pytest.raises(TypeError, match="unknown options"):
            client.classify("easy", treshold=0.5)  # type: ignore[call-arg]
        with pytest.raises(ValueError, match="not both"):
            client.classify("easy", threshold=0.5, max_accuracy_drop=0.1)
        with pytest.raises(ValueError, match="index of an exit, from 0, not -1"):
            client.classify("easy", min_exit=-1)
        with pytest.raises(ValueError, match="above 0"):
            client.classify("easy", timeout=0)
        with pytest.raises(ValueError, match="urgent"):
            client.classify("easy", priority="urgent")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="threshold must be a number"):
            client.classify("easy", threshold="0.9")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="several texts"):
            client.classify_many("easy")
        with pytest.raises(TypeError, match="a text or a pair"):
            list(client.classify_many([7]))  # type: ignore[list-item]

    await use(service, program)
    with pytest.raises(TypeError, match="several texts"):
        service.client.classify_many("easy")
    assert not service.backend.batches


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_an_address_has_a_port(kind: type[Client | AsyncClient]) -> None:
    with pytest.raises(ValueError, match="like localhost:50051, not 'localhost'"):
        kind("localhost")


async def test_a_slow_iterable_is_answered_as_it_comes(service: WordService) -> None:
    heard = threading.Event()

    def texts() -> Iterator[str]:
        yield "easy"
        assert heard.wait(PATIENCE)  # not before the first is answered
        yield "easy"

    def program(client: Client) -> None:
        answers = client.classify_many(texts())
        assert next(answers).index == 0
        heard.set()
        assert [answer.index for answer in answers] == [1]

    await use(service, program)


async def test_who_abandons_a_stream_leaves_nothing_behind(service: WordService) -> None:
    taken = list[str]()

    def texts() -> Iterator[str]:
        while True:
            taken.append("easy")
            yield "easy"

    def program(client: Client) -> None:
        with closing(client.classify_many(texts())) as answers:
            for answer in answers:
                if answer.index == 1000:
                    break
        stopped_at = _when_still(taken)
        assert stopped_at < 1000 + 2 * 256 + 2

    await use(service, program)
    await eventually(lambda: service.scheduler.idle and service.held == (0, 0))
    await eventually(lambda: "offramp-feed" not in [t.name for t in threading.enumerate()])


def _when_still(growing: list[str]) -> int:
    """Its length once the feed's thread has ended."""
    deadline = time.monotonic() + PATIENCE
    while "offramp-feed" in [thread.name for thread in threading.enumerate()]:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return len(growing)


async def test_an_iterable_that_raises_ends_the_stream(service: WordService) -> None:
    def texts() -> Iterator[str]:
        yield "easy"
        raise LookupError("no more")

    def program(client: Client) -> None:
        answers = client.classify_many(texts())
        assert next(answers).label == "yes"
        with pytest.raises(LookupError, match="no more"):
            next(answers)

    await use(service, program)


async def test_a_clients_timeout_bounds_its_calls_and_no_stream(service: WordService) -> None:
    def program(client: Client) -> None:
        client.classify("easy")
        list(client.classify_many(["easy"]))
        list(client.classify_many(["easy"], timeout=PATIENCE))

    await use(service, program)
    deadlines = [batch.requests[0].terms.deadline for batch in service.backend.batches]
    assert [deadline < inf for deadline in deadlines] == [True, False, True]


async def test_threads_share_a_client(service: WordService) -> None:
    def program(client: Client) -> None:
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(client.classify, ["easy", "hard"] * 40))
        assert [answer.exit for answer in answers] == [0, 2] * 40

    await use(service, program)


def test_nobody_listens() -> None:
    with Client("127.0.0.1:1") as client:
        assert repr(client) == "Client('127.0.0.1:1')"
        with pytest.raises(OfframpError) as raised:
            client.classify("easy", timeout=20)
        assert raised.value.code.name == "UNAVAILABLE"
