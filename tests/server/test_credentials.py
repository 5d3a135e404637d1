"""TLS and bearer tokens, between the real ends."""

import asyncio
from itertools import repeat
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from service import word_service
from wire import unary, wire

from offramp.cli import bench, health
from offramp.client import (
    AsyncClient,
    DeadlineExceededError,
    OverloadedError,
    UnauthenticatedError,
    UnavailableError,
)
from offramp.server.app import serve
from offramp.server.config import ServerConfig
from offramp.server.starter import Starter


def certified(directory: Path) -> tuple[trustme.CA, Path, Path]:
    """An authority, and the certificate and key of a server on this machine."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    certificate, private_key = directory / "server.pem", directory / "server.key"
    for blob in issued.cert_chain_pems:
        blob.write_to_path(certificate, append=True)
    issued.private_key_pem.write_to_path(private_key)
    return authority, certificate, private_key


async def test_only_a_token_of_the_file_opens_our_services(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("old-secret\nnew-secret\n")
    async with word_service(tmp_path, token_file=tokens) as service:
        for token in ("old-secret", "new-secret"):
            async with AsyncClient(service.address, token=token) as client:
                assert (await client.classify("easy")).label == "yes"
                assert [answer.label async for answer in client.classify_many(["easy"])] == ["yes"]
                assert len(await client.list_models()) == 1
        for wrong in (None, "", "secret", "old-secret "):
            async with AsyncClient(service.address, token=wrong) as client:
                with pytest.raises(UnauthenticatedError, match="authorization: Bearer"):
                    await client.classify("easy")
                with pytest.raises(UnauthenticatedError):
                    await anext(client.classify_many(["easy"]))
                with pytest.raises(UnauthenticatedError):
                    await client.get_model()
        async with wire(service.address) as raw:
            channel: Any = raw.channel
            classify = channel.unary_unary("/offramp.v1.ClassifierService/ClassifyText")
            with pytest.raises(grpc.aio.AioRpcError) as refused:  # before anything is read
                await classify(b"\xff")
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            request = unary("easy")
            for scheme in ("bearer", "BEARER"):
                metadata = (("authorization", f"{scheme} old-secret"),)
                assert await raw.classifier.ClassifyText(request, metadata=metadata)
        async with wire(service.address) as raw:  # probes need none
            stub = health_pb2_grpc.HealthStub(raw.channel)
            check = await stub.Check(health_pb2.HealthCheckRequest())
            assert check.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_stream_that_ends_while_it_sends_tells_its_own_status(tmp_path: Path) -> None:
    """Which gRPC hides behind one of its own where a text is sent just then: so, many streams."""
    tokens = tmp_path / "tokens"
    tokens.write_text("secret\n")
    async with word_service(tmp_path, token_file=tokens) as service:
        async with AsyncClient(service.address, token="wrong") as stranger:
            for _ in range(30):
                with pytest.raises(UnauthenticatedError):
                    await anext(stranger.classify_many(repeat("fine film " * 1000)))
        async with AsyncClient(service.address, token="secret") as client:
            for _ in range(10):
                texts = client.classify_many(repeat("fine"), timeout=0.05, return_errors=True)
                with pytest.raises((DeadlineExceededError, OverloadedError)):
                    [answer async for answer in texts]


@pytest.mark.parametrize("text", ["", " \n \n", "tökén\n", "two\x07bells"])
async def test_a_token_file_without_tokens_is_an_error(tmp_path: Path, text: str) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="must hold tokens"):
        async with word_service(tmp_path, token_file=tokens):
            pass


async def test_tls(tmp_path: Path) -> None:
    authority, certificate, private_key = certified(tmp_path)
    trust = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    async with word_service(tmp_path, certificate=certificate, private_key=private_key) as service:
        async with AsyncClient(service.address, credentials=trust, token="any") as client:
            assert (await client.classify("easy")).label == "yes"
        with pytest.raises(UnavailableError, match="does the server speak TLS"):
            await service.client.classify("easy", timeout=2)
        stranger = grpc.ssl_channel_credentials(trustme.CA().cert_pem.bytes())
        async with AsyncClient(service.address, credentials=stranger) as client:
            with pytest.raises(UnavailableError, match="no authority that is trusted here"):
                await client.classify("easy", timeout=2)
    async with (
        word_service(tmp_path) as plain,
        AsyncClient(plain.address, credentials=trust) as client,
    ):
        with pytest.raises(UnavailableError, match="the server does not speak TLS"):
            await client.classify("easy", timeout=2)


@pytest.mark.parametrize(
    ("certificate", "private_key", "told"),
    [
        ("server.key", "server.pem", "must be a certificate chain and its private key"),
        ("server.pem", "server.pem", "must be a certificate chain and its private key"),
        ("server.pem", "nowhere.key", "nowhere.key"),
    ],
)
async def test_what_is_no_certificate_is_told_before_anything_is_loaded(
    certificate: str, private_key: str, told: str, tmp_path: Path
) -> None:
    certified(tmp_path)
    config = ServerConfig(
        "127.0.0.1:0",
        (tmp_path / "nowhere",),
        certificate=tmp_path / certificate,
        private_key=tmp_path / private_key,
    )
    with pytest.raises((OSError, ValueError), match=told):
        await serve(config, Starter(print))


async def test_a_health_check_by_tls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority, certificate, private_key = certified(tmp_path)
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(trusted)
    async with word_service(tmp_path, certificate=certificate, private_key=private_key) as service:
        asked = ["--address", service.address]
        assert await asyncio.to_thread(health.main, [*asked, "--ca", str(trusted)]) == 0
        assert await asyncio.to_thread(health.main, [*asked, "--tls"]) == 1  # not one of its own
        assert await asyncio.to_thread(health.main, [*asked, "--ca", str(private_key)]) == 1
    assert "holds no certificate in PEM" in capsys.readouterr().err
    for option in (("--address", "127.0.0.1"), ("--timeout", "nan")):
        assert health.main(list(option)) == 1
    told = capsys.readouterr().err
    assert "must be HOST:PORT" in told
    assert "above 0 seconds" in told


async def test_load_on_a_secured_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority, certificate, private_key = certified(tmp_path)
    trusted, tokens, texts = tmp_path / "ca.pem", tmp_path / "tokens", tmp_path / "texts"
    authority.cert_pem.write_to_path(trusted)
    tokens.write_text("secret\n")
    texts.write_text("easy\n")
    async with word_service(
        tmp_path, certificate=certificate, private_key=private_key, token_file=tokens
    ) as service:
        given = ["--address", service.address, "--texts", str(texts), "--ca", str(trusted)]
        for arguments, status in (([], 1), (["--token-file", str(tokens)], 0)):
            command = [*given, *arguments, "--seconds", "0.2", "--rate", "20"]
            assert await asyncio.to_thread(bench.main, command) == status
    assert "does not answer: " in capsys.readouterr().err


def test_half_of_tls_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="both a certificate and a private key"):
        ServerConfig("127.0.0.1:0", (tmp_path,), certificate=tmp_path / "server.pem")
