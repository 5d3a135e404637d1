"""From the wire's inputs to requests ready to submit: checked, resolved, tokenized."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from offramp.model.tokenizer import Tokens
from offramp.scheduler.request import Answer, Priority, Terms
from offramp.server.errors import InvalidRequestError, ModelNotFoundError
from offramp.server.served import ModelRegistry, ServedModel
from offramp.server.telemetry.notes import Notes
from offramp.server.terms import merged, terms_of
from offramp.v1 import classification_pb2 as pb


class Call(NamedTuple):
    """What the inputs of one message share: when they came, until when, and as what.

    Both times are on the clock of `time.monotonic`; `deadline` is infinite where there is none.
    """

    arrived: float
    deadline: float
    priority: Priority


class Prepared(NamedTuple):
    """An input that passed every check and is tokenized."""

    model: ServedModel
    tokens: Tokens
    terms: Terms
    all_probabilities: bool
    arrived: float
    notes: Notes | None

    def submit(self) -> asyncio.Future[Answer]:
        """Submit it to its model's engine; raises SchedulerError if it is refused."""
        return self.model.engine.submit(
            self.tokens, len(self.tokens), self.terms, self.arrived, self.notes
        )


class Accepted(NamedTuple):
    """What an input asks for, every option checked; `asked` is its threshold before any guard."""

    model: ServedModel
    terms: Terms
    asked: float
    all_probabilities: bool


async def prepare(
    registry: ModelRegistry,
    inputs: Sequence[pb.TextInput],
    common: pb.ClassifyOptions,
    call: Call,
    *,
    waits: bool,
) -> list[Prepared | Exception]:
    """Check and tokenize the inputs of a message; each succeeds or fails on its own.

    Unless it `waits` for room in the queue, what would be refused is not tokenized.
    """
    outcomes: list[Prepared | Exception | None] = [None] * len(inputs)
    accepted: dict[int, Accepted] = {}
    places_of: dict[int, list[int]] = {}  # by model
    shared: Accepted | None = None  # by all inputs without options of their own
    for index, item in enumerate(inputs):
        try:
            _check_text(item)
            if item.HasField("options"):
                found = _accept(registry, merged(common, item.options), call)
            else:
                found = shared = shared or _accept(registry, common, call)
            _check_pair(item, pairs=found.model.checkpoint.config.pairs)
        except (InvalidRequestError, ModelNotFoundError) as error:
            registry.invalid(error)
            outcomes[index] = error
            continue
        if not waits:
            outcomes[index] = found.model.turned_away(found.terms, call.arrived)
            if outcomes[index] is not None:
                continue
        accepted[index] = found
        places_of.setdefault(id(found.model), []).append(index)
    for places in places_of.values():
        model = accepted[places[0]].model
        encoded = await model.tokenize([inputs[index] for index in places])
        for index, tokens in zip(places, encoded, strict=True):
            outcomes[index] = made = _prepared(inputs, index, accepted[index], tokens, call)
            if isinstance(made, InvalidRequestError):
                registry.invalid(made)
    return [outcome for outcome in outcomes if outcome is not None]


def _prepared(
    inputs: Sequence[pb.TextInput], index: int, found: Accepted, tokens: Tokens, call: Call
) -> Prepared | InvalidRequestError:
    """An input with its tokens, if it has any of its own."""
    item, model = inputs[index], found.model
    pair = item.HasField("text_pair")
    if len(tokens) <= model.checkpoint.tokenizer.special_tokens(pair=pair):
        return InvalidRequestError("text", "holds nothing that the model reads; send some text")
    notes = None
    if model.watch is not None:
        alone = len(inputs) == 1
        notes = model.watch.notes(item.text, len(tokens), found.asked, call.arrived, alone=alone)
    return Prepared(model, tokens, found.terms, found.all_probabilities, call.arrived, notes)


def _check_text(item: pb.TextInput) -> None:
    if not item.text.strip():
        raise InvalidRequestError("text", "is empty; send some text")


def _check_pair(item: pb.TextInput, *, pairs: bool | None) -> None:
    """Of a model that knows what it was trained on: such texts alone mean something to it."""
    if pairs is not None and item.HasField("text_pair") is not pairs:
        trained, send = ("pairs", "a second text") if pairs else ("single texts", "one text")
        raise InvalidRequestError("text_pair", f"the model was trained on {trained}; send {send}")


def _accept(registry: ModelRegistry, options: pb.ClassifyOptions, call: Call) -> Accepted:
    model = registry.get(options.model)
    checkpoint = model.checkpoint
    terms = terms_of(
        options, checkpoint.config, checkpoint.calibration, call.priority, call.deadline
    )
    asked = terms.threshold
    if model.watch is not None and options.WhichOneof("exit_rule") != "threshold":
        terms = model.watch.guarded(terms)
    return Accepted(model, terms, asked, options.all_probabilities)
