"""What clients connect to, and by which way."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import grpc
import pytest
import trustme
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Setter, TextMapPropagator, default_setter
from service import word_service

from offramp.client import AsyncClient, Client, UnavailableError
from offramp.client.channel import channel_options, proxy_options, target_of
from offramp.client.tracing import call_span

Carrier = TypeVar("Carrier")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "h:",
        "127.0.0.1:65536",
        "127.0.0.1:0",
        "[::1]:99999",
        ":1",
        "http://h:1",
        "https://h",
        "::1:8080",
        "2001:db8::1",
        "[::1:8080",
        "localhost:-5",
        "localhost:²",
        "localhost:\u0665",
        "localhost:ftp",
        "localhost:0x50",
        "localhost:1,localhost:2",
        "other://h:1",
        "dns:///h:65536",
        "ipv4:127.0.0.1:²",
    ],
)
def test_an_address_without_a_port_that_there_is_is_refused(address: str) -> None:
    for client in (Client, AsyncClient):
        with pytest.raises(ValueError, match="must be HOST:PORT"):
            client(address)
        with pytest.raises(ValueError, match="must be HOST:PORT"):
            client(50051)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "address",
    [
        "localhost:50051",
        "[::1]:50051",
        "localhost:http",
        "h.example:https",
        "dns:h:1",
        "DNS:///h:1",
        "dns://8.8.8.8/h:1",
        "ipv4:127.0.0.1:1,127.0.0.2:2",
        "ipv6:[::1]:1",
        "unix:/run/offramp.sock",
        "unix:///run/offramp.sock",
        "unix-abstract:offramp",
        "xds:///offramp",
    ],
)
def test_what_grpc_connects_to_is_taken(address: str) -> None:
    assert target_of(address) == address


@pytest.mark.parametrize(
    ("address", "direct"),
    [
        ("localhost:1", True),
        ("127.0.0.1:1", True),
        ("127.1.2.3:1", True),
        ("[::1]:1", True),
        ("dns:///LOCALHOST:1", True),
        ("dns:localhost:1", True),
        ("ipv4:127.0.0.1:1,127.0.0.2:1", True),
        ("ipv6:[::1]:1", True),
        ("ipv4:127.0.0.1:1,192.0.2.1:1", False),
        ("192.0.2.1:1", False),
        ("[2001:db8::1]:1", False),
        ("localhost.example.org:1", False),
        ("unix:/run/offramp.sock", False),
    ],
)
def test_this_machine_is_reached_without_a_proxy(address: str, *, direct: bool) -> None:
    assert proxy_options(address) == ((("grpc.enable_http_proxy", 0),) if direct else ())
    assert ("grpc.enable_http_proxy" in dict(channel_options(address, retries=True))) is direct


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # where nobody listens
    for name in ("no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with word_service(tmp_path) as service:
        assert (await service.client.classify("easy", timeout=5)).label == "yes"


class Capitals(TextMapPropagator):
    """Writes a key as X-Ray's does."""

    def extract(
        self, carrier: object, context: Context | None = None, getter: object = None
    ) -> Context:
        raise NotImplementedError

    def inject(
        self,
        carrier: Carrier,
        context: Context | None = None,
        setter: Setter[Carrier] = default_setter,
    ) -> None:
        setter.set(carrier, "X-Amzn-Trace-Id", "Root=1-5759e988-bd862e3fe1be46a994272793")

    @property
    def fields(self) -> set[str]:
        return {"X-Amzn-Trace-Id"}


@pytest.fixture
def capitals() -> Iterator[None]:
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(Capitals())
    yield
    propagate.set_global_textmap(before)


@pytest.mark.usefixtures("capitals")
async def test_keys_of_a_trace_travel_in_lower_case(tmp_path: Path) -> None:
    with call_span("a/b", ()) as metadata:
        assert [key for key, _ in metadata] == ["x-amzn-trace-id"]
    async with word_service(tmp_path) as service:
        assert (await service.client.classify("easy")).label == "yes"
        assert [a.label async for a in service.client.classify_many(["easy"])] == ["yes"]


async def test_the_usual_mistakes_of_tls_are_explained(tmp_path: Path) -> None:
    authority = trustme.CA()
    elsewhere = authority.issue_cert("example.org")
    trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    stranger = grpc.ssl_channel_credentials(trustme.CA().cert_pem.bytes())
    chain = b"".join(blob.bytes() for blob in elsewhere.cert_chain_pems)
    key = elsewhere.private_key_pem.bytes()
    root = authority.cert_pem.bytes()
    certificate, private_key = tmp_path / "server.pem", tmp_path / "server.key"
    for served, key_of, credentials, told in (
        (chain, key, trusted, "certificate is for other names: connect by one that is in it"),
        (chain + root, key, stranger, "trusted by nobody here: give it, --ca FILE"),
        (root, authority.private_key_pem.bytes(), stranger, "trusted by nobody here: give it"),
    ):
        certificate.write_bytes(served)
        private_key.write_bytes(key_of)
        async with (
            word_service(tmp_path, certificate=certificate, private_key=private_key) as service,
            AsyncClient(service.address, credentials=credentials) as client,
        ):
            with pytest.raises(UnavailableError, match=told):
                await client.classify("easy", timeout=2)


def test_a_format_of_traces_that_is_not_installed_stops_no_call() -> None:
    code = "from offramp.client.tracing import call_span\nwith call_span('a/b', ()) as m: print(m)"
    environ = {**os.environ, "OTEL_PROPAGATORS": "b9"}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "()\n"
    assert "servers get no traces, OTEL_PROPAGATORS: Propagator b9 not found" in done.stderr
