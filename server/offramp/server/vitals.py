"""Whether a served model still works; one that does not ends the server, for whoever restarts it.

A model can be in its place and of no use: a lost GPU fails every step, a driver that hangs ends
none. Neither shows from outside, for the port is open and errors are answers too. One bad input is
no sign of it, so whether a failure is the model's is found out with an input that it has read
before. The event loop itself, which may run a step, is looked at by a thread.
"""

import asyncio
import faulthandler
import logging
import os
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from math import inf
from typing import NoReturn

from offramp.scheduler.errors import SchedulerError, StepFailedError
from offramp.scheduler.request import Terms
from offramp.server.served import ServedModel
from offramp.server.telemetry.logs import Event, log_event
from offramp.server.warmup import known_input

LOOK = 1.0
"""Seconds between two looks."""

HANGING = 60
"""Looks in a row that find the same step overdue by more than one, or the loop where it was."""

TELLING = 5.0
"""Seconds to tell why the process ends."""

FAILING = 3
"""Known inputs in a row that fail: no other will be answered."""


class ModelLostError(RuntimeError):
    """A model that answers nothing any more."""

    def __init__(self, model: str, sign: str) -> None:
        super().__init__(
            f"the model {model} is of no use any more: {sign}; the server must restart"
        )


async def hangs(model: ServedModel) -> NoReturn:
    """Return never; raises ModelLostError once a step of the model does not end.

    Looks are counted, not seconds, so that a process that was stopped for a while is not taken for
    one that hangs.
    """
    due, late = inf, 0
    while late < HANGING:
        await asyncio.sleep(LOOK)
        before, due = due, model.engine.due
        late = late + 1 if due == before and due + LOOK < time.monotonic() else 0
    raise ModelLostError(model.checkpoint.name, f"a step is {late * LOOK:.0f} s overdue")


async def fails(model: ServedModel) -> NoReturn:
    """Return never; raises ModelLostError once the model fails on whatever it is given."""
    seen, failed = model.failures, 0
    while failed < FAILING:
        await asyncio.sleep(LOOK)
        if failed or model.failures > seen:
            seen = model.failures
            with suppress(SchedulerError):  # a refusal tells nothing
                failed = failed + 1 if await _fails_now(model) else 0
    raise ModelLostError(model.checkpoint.name, "it fails on inputs that it has read before")


async def _fails_now(model: ServedModel) -> bool:
    """Whether a known input fails on its way to the last exit.

    It waits for room in the queue, which whoever fails makes soon.
    """
    last = model.checkpoint.config.exits - 1
    tokens = known_input(model.checkpoint.config)
    await model.engine.room()
    terms = Terms(threshold=inf, min_exit=last, max_exit=last)
    try:
        await model.engine.submit(tokens, len(tokens.ids), terms, time.monotonic())
    except StepFailedError:
        return True
    return False


@asynccontextmanager
async def looked_at() -> AsyncGenerator[None]:
    """End the process if its event loop stands still for good; tell where every thread was then."""
    looks, over = _Looks(), threading.Event()
    beating = asyncio.create_task(_beat(looks))
    threading.Thread(target=_watch, args=(looks, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        beating.cancel()


class _Looks:
    """How often the loop came round."""

    count = 0


async def _beat(looks: _Looks) -> NoReturn:
    while True:
        looks.count += 1
        await asyncio.sleep(LOOK)


def _watch(looks: _Looks, over: threading.Event) -> None:
    seen, still = 0, 0
    while still < HANGING:
        if over.wait(LOOK):
            return
        still = still + 1 if looks.count == seen else 0
        seen = looks.count
    # Whoever reads what is told may hang as well: it is waited for, not for ever.
    telling = threading.Thread(target=_tell, args=(still * LOOK,), daemon=True)
    telling.start()
    telling.join(TELLING)
    os._exit(1)


def _tell(seconds: float) -> None:
    sign = f"the event loop stands still for {seconds:.0f} s; the server must restart"
    log_event(Event.LOST, sign, logging.ERROR)
    faulthandler.dump_traceback()
