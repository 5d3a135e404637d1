"""The two services: thin shells that turn messages into requests and answers into messages."""

import asyncio
import time
from collections.abc import Sequence
from math import inf
from typing import cast

from offramp.scheduler.request import Answer, Priority
from offramp.server.errors import InvalidRequestError
from offramp.server.handlers import Context
from offramp.server.prepare import Call, Prepared, prepare
from offramp.server.served import ModelRegistry
from offramp.server.statuses import status_of
from offramp.server.stream import StreamSession
from offramp.server.wire import Outcome, fill, model_message
from offramp.v1 import classifier_service_pb2 as pb
from offramp.v1 import model_service_pb2 as models_pb
from offramp.v1.classifier_service_pb2_grpc import ClassifierServiceServicer
from offramp.v1.model_service_pb2_grpc import ModelServiceServicer

NO_DEADLINE = 1e9
"""gRPC tells a call without a deadline by a remaining time of more than a lifetime, or None."""


class ClassifierServicer(ClassifierServiceServicer):
    """Classifies: one message and its answer, or a stream of them."""

    def __init__(
        self, registry: ModelRegistry, max_inputs: int, window: int, draining: asyncio.Event
    ) -> None:
        self._registry = registry
        self._max_inputs = max_inputs
        self._window = window
        self._draining = draining

    async def ClassifyText(  # noqa: N802
        self, request: pb.ClassifyTextRequest, context: Context
    ) -> pb.ClassifyTextResponse:
        """Classify the inputs of one message; fails as a whole only if all fail alike."""
        call = call_of(context, Priority.INTERACTIVE)
        if not 1 <= len(request.inputs) <= self._max_inputs:
            raise InvalidRequestError(
                "inputs",
                f"must hold 1 to {self._max_inputs} texts, not {len(request.inputs)}; "
                "StreamClassifyText takes any number",
            )
        with self._registry.admissions:
            inputs, options = request.inputs, request.options
            prepared = await prepare(self._registry, inputs, options, call, waits=False)
            outcomes = await _outcomes(prepared)
        raise_if_all_failed_alike(outcomes)
        response = pb.ClassifyTextResponse()
        for outcome in outcomes:
            fill(response.results.add(), outcome)
        return response

    async def StreamClassifyText(  # type: ignore[override]  # noqa: N802
        self, request_iterator: object, context: Context
    ) -> None:
        """Classify inputs as they come and answer as they finish."""
        del request_iterator  # read and write of the context allow replies in any order
        call = call_of(context, Priority.BULK)
        await StreamSession(self._registry, context, call, self._window).run(self._draining)


class ModelServicer(ModelServiceServicer):
    """Tells what is served."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    async def ListModels(  # noqa: N802
        self, request: models_pb.ListModelsRequest, context: Context
    ) -> models_pb.ListModelsResponse:
        """All models, the default one first."""
        del request, context
        models = [model_message(model.checkpoint) for model in self._registry]
        return models_pb.ListModelsResponse(models=models)

    async def GetModel(  # noqa: N802
        self, request: models_pb.GetModelRequest, context: Context
    ) -> models_pb.GetModelResponse:
        """One model by its name, the default one without."""
        del context
        model = self._registry.get(request.name)
        return models_pb.GetModelResponse(model=model_message(model.checkpoint))


def call_of(context: Context, priority: Priority) -> Call:
    """When this call came and until when it may last."""
    now = time.monotonic()
    remaining = cast("float | None", context.time_remaining())
    unlimited = remaining is None or remaining > NO_DEADLINE
    return Call(now, inf if unlimited else now + cast("float", remaining), priority)


def raise_if_all_failed_alike(outcomes: Sequence[object]) -> None:
    """Raise the first error if every input failed with the same status code."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if len(errors) == len(outcomes) and len({status_of(error).code for error in errors}) == 1:
        raise errors[0]


async def _outcomes(
    prepared: Sequence[Prepared | Exception],
) -> Sequence[Outcome]:
    if len(prepared) > 1:
        return await asyncio.gather(*map(_classify, prepared), return_exceptions=True)
    try:  # a lone input needs no task of its own
        return [await _classify(prepared[0])]
    except Exception as error:  # noqa: BLE001 - as gather returns them
        return [error]


async def _classify(item: Prepared | Exception) -> tuple[Prepared, Answer]:
    if isinstance(item, Exception):
        raise item
    return item, await item.submit()
