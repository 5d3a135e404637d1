"""How a verb gets in where a server is secured: the same options for each that calls one."""

import argparse
import ssl
from collections.abc import Callable
from pathlib import Path

import grpc


def add_access(add: Callable[..., object]) -> None:
    """Add the options that `credentials_of` and `token_of` read, by a parser's `add_argument`."""
    add("--tls", action="store_true", help="connect with TLS, trusting the system's authorities")
    add("--ca", type=Path, metavar="FILE", help="connect with TLS, trusting this authority (PEM)")
    add("--token-file", type=Path, metavar="FILE", help="send the first token of this file")


def credentials_of(args: argparse.Namespace) -> grpc.ChannelCredentials | None:
    """Those of TLS, if it is asked for.

    Raises OSError where the authority's file is unreadable, ValueError where it is no such.
    """
    if args.ca is not None:
        authority: bytes = args.ca.read_bytes()
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
                cadata=authority.decode("ascii", errors="replace")
            )
        except (ssl.SSLError, ValueError) as error:
            raise ValueError(f"{args.ca} holds no certificate in PEM") from error
        return grpc.ssl_channel_credentials(authority)
    return grpc.ssl_channel_credentials() if args.tls else None


def token_of(args: argparse.Namespace) -> str | None:
    """The first token of the file, which may be the one that `offramp serve` takes.

    Raises OSError, or ValueError if it holds none.
    """
    if args.token_file is None:
        return None
    lines = args.token_file.read_text(encoding="utf-8", errors="replace").splitlines()
    token: str | None = next(filter(None, map(str.strip, lines)), None)
    if token is None:
        raise ValueError(f"{args.token_file} holds no token; write one on a line")
    return token
