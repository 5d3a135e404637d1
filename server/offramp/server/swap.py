"""The hot swap: a checkpoint's directory is read again, and its new model takes over.

The new model is loaded and warmed beside the old one, step by step between the old one's steps.
From one moment on new requests go to the new one; what the old one was given, or is about to be
given by a call that has looked it up already, it finishes, and then it is released. A checkpoint
that cannot be served changes nothing but the log.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import ref

from offramp.model.directory import digest_of
from offramp.model.errors import ModelError
from offramp.server.engines import Engines
from offramp.server.loader import Loader
from offramp.server.served import Admissions, ModelRegistry, ServedModel
from offramp.server.telemetry.logs import Event, log_event
from offramp.server.telemetry.registry import Registry

FAILED = "the new checkpoint is unusable; the old one is served on"


class Swap:
    """Swaps the models of a registry, one at a time.

    `grace` is how long (seconds) calls may take to submit to an old model that they looked up.
    """

    def __init__(
        self,
        loader: Loader,
        models: ModelRegistry,
        engines: Engines,
        registry: Registry | None,
        grace: float,
    ) -> None:
        self._loader = loader
        self._models = models
        self._engines = engines
        self._grace = grace
        count = (registry or Registry()).counter("offramp.swaps")
        # From 0 on, so that a rate sees the first of each.
        self._counts = {
            (model.checkpoint.name, outcome): count.of(model.checkpoint.name, outcome)
            for model in models
            for outcome in ("swapped", "unchanged", "failed")
        }

    async def swap(self, name: str, directory: Path) -> "Sequence[ref[object]]":
        """Serve what is in this directory now under this name; nothing if the old is served on.

        Returns when the old one is released, and references to its engine and its model, which say
        whether anything holds it.
        """
        old, started = self._models.get(name), time.monotonic()
        try:
            if await asyncio.to_thread(digest_of, directory) == old.checkpoint.digest:
                self._tell(name, "unchanged", "the checkpoint is the one that is served", old, old)
                return ()
            new = await asyncio.to_thread(self._loader.load, directory, name)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the old one serves
            reason = str(error) if isinstance(error, ModelError) else repr(error)
            self._tell(name, "failed", FAILED, old, reason=reason)
            return ()
        self._engines.start(new)
        admissions = self._models.put(new)
        new.attach()
        seconds = round(time.monotonic() - started, 3)
        self._tell(name, "swapped", "new requests go to the new checkpoint", old, new, seconds)
        await self._release(old, admissions)
        return ref(old.engine), ref(old.checkpoint.model)

    async def _release(self, old: ServedModel, admissions: Admissions) -> None:
        await admissions.over(self._grace)
        await self._engines.retire(old.engine)
        old.close()

    def _tell(
        self,
        name: str,
        outcome: str,
        message: str,
        old: ServedModel,
        new: ServedModel | None = None,
        seconds: float | None = None,
        reason: str | None = None,
    ) -> None:
        self._counts[name, outcome].total += 1
        details: dict[str, Any] = {
            "old": old.checkpoint.digest,
            "new": new.checkpoint.digest if new is not None else None,
            "seconds": seconds,
            "reason": reason,
        }
        level = logging.ERROR if new is None else logging.INFO
        known = {key: value for key, value in details.items() if value is not None}
        log_event(Event.SWAP, message, level, model=name, outcome=outcome, **known)
