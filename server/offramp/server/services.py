"""What answers at the port: the services, behind their gates, with health and reflection."""

import asyncio
from types import SimpleNamespace

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from offramp.server.auth import TokenGate
from offramp.server.config import ServerConfig
from offramp.server.drain import OpenCalls, ending
from offramp.server.handlers import Gate, MessageLimits, gated_handler, with_status
from offramp.server.health import Health
from offramp.server.served import ModelRegistry
from offramp.server.servicer import ClassifierServicer, ModelServicer
from offramp.server.telemetry.rpc import CallGate
from offramp.server.telemetry.setup import Telemetry
from offramp.server.transport import read_tokens, server_options
from offramp.v1 import classifier_service_pb2, model_service_pb2

CLASSIFIER = classifier_service_pb2.DESCRIPTOR.services_by_name["ClassifierService"]
MODELS = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
MOST_FIELDS = 8192
"""Inputs of a message at most, some milliseconds to read; more where a unary call may have more."""

SERVICES = (CLASSIFIER.full_name, MODELS.full_name)
"""Ours by their full names, as the health service is asked for them."""


def build_server(
    config: ServerConfig,
    telemetry: Telemetry,
    models: ModelRegistry,
    health: Health,
    draining: asyncio.Event,
    calls: OpenCalls,
) -> grpc.aio.Server:
    """A server of these models that has no port yet; streams end once `draining` is set.

    All `calls` of our services are counted.

    Raises OSError or ValueError where the file of tokens is unusable.
    """
    gates: list[Gate] = [calls]
    if telemetry.registry or telemetry.tracer:
        gates.append(CallGate(telemetry.registry, telemetry.tracer))
    gates.append(with_status)
    if config.token_file is not None:
        gates.append(TokenGate(read_tokens(config.token_file)))
    server = grpc.aio.server(options=server_options(config))
    limits = MessageLimits(config.max_message_bytes, max(MOST_FIELDS, 2 * config.max_inputs))
    classifier = ClassifierServicer(models, config.max_inputs, config.stream_window, draining)
    for service, servicer in ((CLASSIFIER, classifier), (MODELS, ModelServicer(models))):
        handler = gated_handler(service, servicer, gates, limits)
        server.add_generic_rpc_handlers((handler,))
    health.Watch = ending(health.Watch, draining)  # type: ignore[method-assign]
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    names = (*SERVICES, HEALTH, reflection.SERVICE_NAME)
    told = reflection.aio.ReflectionServicer(names)  # type: ignore[attr-defined]
    asked = SimpleNamespace(ServerReflectionInfo=ending(told.ServerReflectionInfo, draining))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(asked, server)
    return server
