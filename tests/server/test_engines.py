"""The engines of several models: where one dies, none is waited for."""

import asyncio
from pathlib import Path

import pytest
import torch
from service import PATIENCE, WordBackend
from tiny import tiny_checkpoint

from offramp.client import AsyncClient, OfframpError
from offramp.model.checkpoint import Checkpoint
from offramp.server.app import App
from offramp.server.config import Limits, ServerConfig


async def test_a_dead_engine_ends_the_server_though_another_is_in_a_step(tmp_path: Path) -> None:
    backends: dict[str, WordBackend] = {}

    def make(checkpoint: Checkpoint, slots: int, device: torch.device) -> WordBackend:
        return backends.setdefault(checkpoint.name, WordBackend(checkpoint, slots, device))

    config = ServerConfig(
        "127.0.0.1:0",
        (tiny_checkpoint(tmp_path / "dies"), tiny_checkpoint(tmp_path / "hangs")),
        workers=2,
        threads=1,
        limits=Limits(at_once=0.0, alone_at_once=0.0),
    )
    app = App(config, make_backend=make)
    async with AsyncClient(await app.start(), timeout=PATIENCE) as client:
        calls = [asyncio.ensure_future(client.classify("plug", model="hangs"))]
        await backends["hangs"].is_plugged()
        calls.append(asyncio.ensure_future(client.classify("void", model="dies")))
        await app.failed()
        with pytest.raises(AttributeError):
            await asyncio.wait_for(app.stop(), PATIENCE / 3)
        backends["hangs"].unplug()
        for call in calls:
            with pytest.raises(OfframpError):
                await call
