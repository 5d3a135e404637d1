"""`offramp health`: whether a server serves, by the standard gRPC health service; for probes."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from offramp.cli.access import credentials_of
from offramp.client.channel import proxy_options, target_of, timeout_of
from offramp.client.errors import error_from_rpc


def main(arguments: Sequence[str]) -> int:
    """Ask once; returns 0 if the server serves, else 1."""
    parser = argparse.ArgumentParser(prog="offramp health", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--address", default="127.0.0.1:50051", help="server to ask (default: %(default)s)")
    add("--service", default="", help="service to ask for (default: the server as a whole)")
    add("--timeout", type=float, default=2.0, metavar="SECONDS", help="(default: %(default)s)")
    add("--tls", action="store_true", help="connect with TLS, trusting the system's authorities")
    add("--ca", type=Path, metavar="FILE", help="connect with TLS, trusting this authority (PEM)")
    args = parser.parse_args(arguments)
    try:
        request = health_pb2.HealthCheckRequest(service=args.service)
        timeout = timeout_of(args.timeout, None)
        with _channel(target_of(args.address), credentials_of(args)) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout)
    except grpc.RpcError as error:
        print(f"offramp health: {args.address}: {error_from_rpc(error)}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"offramp health: {error}", file=sys.stderr)
        return 1
    print(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
    return int(answer.status != health_pb2.HealthCheckResponse.SERVING)


def _channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    options = proxy_options(address)
    if credentials is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, credentials, options)
