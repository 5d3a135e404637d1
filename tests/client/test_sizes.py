"""Streams and calls against what a server takes at most."""

from pathlib import Path

import grpc
import pytest
from service import word_service

from offramp.client import Answer, AsyncClient, InvalidRequestError


async def test_long_texts_do_not_share_a_message_that_is_too_large(tmp_path: Path) -> None:
    texts = ["easy " * 1600] * 64  # 8,000 bytes each
    async with word_service(tmp_path, max_message_bytes=2**17) as service:
        answers = [answer async for answer in service.client.classify_many(texts)]
        assert len(answers) == 64
        assert all(isinstance(answer, Answer) for answer in answers)


async def test_what_grpc_itself_finds_too_large_is_no_overload(tmp_path: Path) -> None:
    async with word_service(tmp_path, max_message_bytes=2**16) as service:
        with pytest.raises(InvalidRequestError, match=r"larger than max .* \(cut the text, or "):
            await service.client.classify("x" * 1_000_000)
        async with AsyncClient(service.address, token="x" * 20_000, retries=False) as client:
            with pytest.raises(InvalidRequestError, match=r"size exceeds .* \(send a shorter to"):
                await client.classify("easy")
            with pytest.raises(InvalidRequestError) as raised:
                await anext(client.classify_many(["easy"]))
            assert raised.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
