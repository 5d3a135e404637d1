"""The thread on which the synchronous client reads its caller's texts."""

import asyncio
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import pytest
from service import word_service

from offramp.client import Client


def test_a_closed_client_reads_no_text() -> None:
    taken = list[str]()

    def texts() -> Iterator[str]:
        taken.append("fine")
        yield "fine"

    client = Client("127.0.0.1:1")
    client.close()
    with pytest.raises(ValueError, match="this client is closed"):
        next(client.classify_many(texts()))
    assert "offramp-feed" not in [thread.name for thread in threading.enumerate()]
    assert not taken


async def test_texts_see_the_context_variables_of_the_caller(tmp_path: Path) -> None:
    variable = ContextVar("variable", default="unset")

    def texts() -> Iterator[str]:
        seen.append(variable.get())
        yield "easy"

    seen = list[str]()
    async with word_service(tmp_path) as service:

        def program() -> None:
            variable.set("set")
            with Client(service.address) as client:
                assert [answer.label for answer in client.classify_many(texts())] == ["yes"]

        await asyncio.to_thread(program)
    assert seen == ["set"]
