"""How clients connect: retries, keepalive, limits, credentials."""

import json
from ipaddress import ip_address

from offramp.client.core import LONGEST_TEXT

DEFAULT_TIMEOUT = 30.0
"""Seconds that a call may take when it is not told otherwise; a stream is not bounded."""

LAST_PORT = 65_535
NAMED_PORTS = ("http", "https")
"""Those that gRPC knows."""

UNBOUNDED = 1e9
"""Seconds above which a timeout is none: gRPC's clock would overflow and the call end at once."""

RETRIES = {
    "maxAttempts": 4,
    "initialBackoff": "0.05s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
}
"""Retries are gRPC's own: of what was not answered, after the delay that the server asks for.

CANCELLED is what gRPC says of a call that reaches a server as it closes (grpc/grpc#41785), or that
one did not finish in time before it ended.
"""

SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [
                {"service": "offramp.v1.ClassifierService", "method": "ClassifyText"},
                {"service": "offramp.v1.ModelService"},
            ],
            "retryPolicy": RETRIES,
        }
    ],
}

RETRY_BUFFER = 2 * LONGEST_TEXT
"""Bytes of a call that gRPC keeps to send them again: the longest input, its options, metadata."""

SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:", "google-c2p:")
"""What gRPC's own names begin with."""

URLS = ("http://", "https://", "grpc://")
"""What no name of gRPC's begins with."""

CLOSED = "this client is closed; make another"

Metadata = tuple[tuple[str, str], ...]


def channel_options(address: str, *, retries: bool) -> tuple[tuple[str, str | int], ...]:
    """The options of a client's channel to what `target_of` gave."""
    return (
        ("grpc.max_receive_message_length", -1),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.use_local_subchannel_pool", 1),  # a connection of its own for each client
        ("grpc.max_reconnect_backoff_ms", 2000),  # else up to two minutes after a server is back
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
        ("grpc.enable_retries", int(retries)),
        ("grpc.per_rpc_retry_buffer_size", RETRY_BUFFER),  # else what is larger is not retried
        *proxy_options(address),
    )


def proxy_options(address: str) -> tuple[tuple[str, int], ...]:
    """The channel option that keeps calls to this machine off `http_proxy`; none for others."""
    name = address.rpartition("/")[2]
    if name.lower().startswith(SCHEMES):
        name = name.partition(":")[2]
    hosts = [one.rpartition(":")[0].strip("[]") for one in name.split(",")]
    return (("grpc.enable_http_proxy", 0),) if all(map(_is_loopback, hosts)) else ()


def _is_loopback(host: str) -> bool:
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:  # any other name
        return False


def target_of(address: object) -> str:
    """What gRPC is to connect to; raises ValueError of a host alone, whose port it would guess.

    And of a port that there is not, of which it would take the remainder, of no host, of IPv6
    without brackets and of a URL; names of gRPC's own, such as `dns:///host:port`, are taken.
    """
    known = address if isinstance(address, str) else ""
    host, _, port = known.rpartition(":")
    right = host and port and not known.lower().startswith(URLS)
    if not known.lower().startswith(SCHEMES):
        bracketed = host.startswith("[") and host.endswith("]")
        right = right and (bracketed or ":" not in host) and _is_port(port)
    elif port.isdigit():
        right = right and _is_port(port)
    if not right:
        raise ValueError(f"an address must be HOST:PORT, like localhost:50051, not {address!r}")
    return known


def _is_port(port: str) -> bool:
    number = port.isascii() and port.isdecimal()
    return 0 < int(port) <= LAST_PORT if number else port in NAMED_PORTS


def call_metadata(token: object) -> Metadata:
    """What goes with every call: the token, if there is one; raises TypeError or ValueError."""
    if token is None:
        return ()
    if not isinstance(token, str):
        raise TypeError(f"a token must be a string, not {type(token).__name__}")
    if not (token.isascii() and token.isprintable()):
        raise ValueError("a token must be printable ASCII on one line; strip it of line breaks")
    return (("authorization", f"Bearer {token}"),)


def timeout_of(own: float | None, default: float | None) -> float | None:
    """The timeout of a call in seconds, its own before the client's; raises ValueError.

    None is no bound, and so is what is above `UNBOUNDED`, such as `math.inf`.
    """
    timeout = default if own is None else own
    if timeout is None:
        return None
    try:
        bounded = timeout > 0
    except TypeError:
        raise TypeError(f"a timeout must be a number of seconds, not {timeout!r}") from None
    if not bounded:
        raise ValueError(f"a timeout must be above 0 seconds, not {timeout}")
    return timeout if timeout <= UNBOUNDED else None
