"""The port: gRPC's options, TLS, tokens; what the configuration says of them, read from files."""

import socket
import ssl
from pathlib import Path

import grpc
import grpc.aio

from offramp.server.config import HARD_LIMIT, ServerConfig

LEAST_PING_INTERVAL_MS = 10_000
"""Clients may ping this often. gRPC's default of five minutes hangs up on keepalive."""


def server_options(config: ServerConfig) -> tuple[tuple[str, int], ...]:
    """The channel arguments of a server."""
    options: tuple[tuple[str, int], ...] = (
        # On, a second server on the port starts in silence: for those alone that mean to share it.
        ("grpc.so_reuseport", int(config.processes > 1)),
        ("grpc.max_receive_message_length", HARD_LIMIT * config.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", LEAST_PING_INTERVAL_MS),
    )
    if config.max_connection_age:
        options += (("grpc.max_connection_age_ms", int(config.max_connection_age * 1e3)),)
    return options


def check_address(address: str) -> None:
    """Raise OSError if this address is taken or not ours, before anybody waits for a model."""
    _bound(address, socket.SO_REUSEADDR).close()


def hold_address(address: str) -> tuple[socket.socket, str]:
    """Keep an address for servers that share it; returns a deaf socket, and HOST:PORT.

    Where port 0 was asked for that is a free one. Raises OSError if it is taken or not ours.
    """
    check_address(address)
    # The first option is for connections that a server before left behind; without it from then
    # on, whoever else asks for the address is refused.
    held = _bound(address, socket.SO_REUSEADDR, socket.SO_REUSEPORT)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return held, f"{address.rpartition(':')[0]}:{held.getsockname()[1]}"


def _bound(address: str, *options: int) -> socket.socket:
    """A socket at an address, on which nobody listens; raises OSError in words."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        family, kind, protocol, _, place = found[0]
        bound = socket.socket(family, kind, protocol)
        try:
            for option in options:
                bound.setsockopt(socket.SOL_SOCKET, option, 1)
            bound.bind(place)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise OSError(f"cannot listen on {address}: {error.strerror}") from error
    return bound


def check_files(config: ServerConfig) -> None:
    """Raise OSError or ValueError where TLS or tokens cannot be had of their files."""
    if config.token_file is not None:
        read_tokens(config.token_file)
    if config.certificate is None or config.private_key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            config.certificate, config.private_key, password=lambda: ""
        )
    except ssl.SSLError as error:
        raise ValueError(
            f"{config.certificate} and {config.private_key} must be a certificate chain and its"
            f" private key, not encrypted, both in PEM: {error.reason or error}"
        ) from error
    except FileNotFoundError:  # which does not say which
        for path in (config.certificate, config.private_key):
            path.read_bytes()
        raise


def open_port(server: grpc.aio.Server, config: ServerConfig) -> int:
    """Listen on the configured address, with TLS if there is a certificate; returns the port.

    Raises OSError if the address is taken or not ours, or a file is not readable.
    """
    try:
        if config.certificate is None or config.private_key is None:
            return server.add_insecure_port(config.address)
        pair = (config.private_key.read_bytes(), config.certificate.read_bytes())
        return server.add_secure_port(config.address, grpc.ssl_server_credentials([pair]))
    except RuntimeError as error:
        secured = f" with {config.certificate} and {config.private_key}, whose kind it may not know"
        told = secured if config.certificate is not None else ""
        raise OSError(f"gRPC cannot listen on {config.address}{told}: {error}") from error


def read_tokens(path: Path) -> tuple[str, ...]:
    """The tokens in a file, one a line; raises OSError, or ValueError if it holds none."""
    text = path.read_text(encoding="utf-8", errors="replace")
    tokens = tuple(filter(None, map(str.strip, text.splitlines())))
    if not tokens or not all(token.isascii() and token.isprintable() for token in tokens):
        raise ValueError(f"{path} must hold tokens of printable ASCII, one a line")
    return tokens
