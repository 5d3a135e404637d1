"""A checkpoint is swapped under load: nobody is lost, each answer is of one model or the other."""

import asyncio
import gc
import re
import shutil
import signal
import urllib.request
import weakref
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command import served
from loglines import written
from service import PATIENCE, WordBackend, eventually, word_service
from tiny import tiny_checkpoint
from wire import streamed, wire

from offramp.client import AsyncClient, ModelInfo
from offramp.scheduler.errors import DrainingError
from offramp.scheduler.request import Terms
from offramp.server.app import App, swap_whenever
from offramp.server.config import Limits, ServerConfig
from offramp.server.garbage import release, settle
from offramp.server.served import Admissions
from offramp.server.telemetry.setup import configure

OLD, NEW = ("no", "yes"), ("bad", "good")


async def info(client: AsyncClient) -> ModelInfo:
    return await client.get_model()


async def test_under_load_nobody_is_lost(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service:
        client, seen, ended = service.client, list[str](), asyncio.Event()

        async def call() -> None:
            while not ended.is_set():
                seen.append((await client.classify("fine film")).label)

        async def texts() -> AsyncGenerator[str]:
            while not ended.is_set():
                yield "fine film"

        async def stream() -> None:
            seen.extend([answer.label async for answer in client.classify_many(texts())])

        loads = [asyncio.ensure_future(load()) for load in (call, call, call, stream)]
        before = await info(client)
        await eventually(lambda: len(seen) > 20)
        tiny_checkpoint(tmp_path / "words", NEW, exit_layers=(1, 3))
        await service.app.swap()
        assert (await client.classify("fine film")).label == "good"
        ended.set()
        await asyncio.gather(*loads)
        after = await info(client)
    assert set(seen) == {"yes", "good"}
    assert before.digest != after.digest
    assert (before.labels, after.labels) == (OLD, NEW)
    assert (before.name, after.name) == ("words", "words")
    assert after.exit_layers == (1, 3)


async def test_who_looked_the_old_one_up_is_answered_by_it_and_then_it_is_released(
    tmp_path: Path,
) -> None:
    async with word_service(tmp_path) as service:
        models = service.app.models
        served = models.get("")
        parts: list[object] = [served.checkpoint.model, served.engine, served.engine.scheduler]
        held = [weakref.ref(part) for part in parts]
        del served
        parts.clear()

        async def late() -> str:
            with models.admissions:
                old = models.get("")
                (tokens,) = old.checkpoint.tokenizer.encode([("easy", None)])
                tiny_checkpoint(tmp_path / "words", NEW)
                swap = asyncio.ensure_future(service.app.swap())
                await eventually(lambda: models.get("") is not old)
                assert (await service.client.classify("easy")).label == "good"
                assert not swap.done()
                answer = old.engine.submit(tokens, len(tokens), Terms(0.5, 0, 2), 0.0)
            await swap
            return old.checkpoint.config.labels[answer.result().reading.label]

        gc.disable()  # full collections would hold the loop: nothing may need one
        try:
            assert await late() == "yes"
            assert [one() for one in held] == [None] * 3
        finally:
            gc.enable()


async def test_one_that_holds_itself_goes_all_the_same(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service:
        model: Any = service.app.models.get("").checkpoint.model
        model.itself = [model]
        settle()
        weights, changed, swapped = weakref.ref(model), asyncio.Event(), asyncio.Event()
        del model
        tiny_checkpoint(tmp_path / "words", NEW)
        changed.set()
        swaps = asyncio.create_task(swap_whenever(changed, service.app, swapped.set))
        try:
            await asyncio.wait_for(swapped.wait(), PATIENCE)
            assert weights() is None
        finally:
            swaps.cancel()
            release()


async def test_who_holds_the_old_one_for_too_long_is_told_to_come_again(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "words")
    config = ServerConfig("127.0.0.1:0", (checkpoint,), drain_grace=0.0)
    app = App(config, make_backend=WordBackend)
    await app.start()
    old = app.models.get("")
    with app.models.admissions:
        tiny_checkpoint(checkpoint, NEW)
        await app.swap()
        with pytest.raises(DrainingError):
            old.engine.submit("tokens", 1, Terms(0.5, 0, 2), 0.0)
    await app.stop()


async def test_a_swap_waits_for_the_last_of_those_who_looked_the_old_one_up() -> None:
    admissions = Admissions()
    with admissions:
        with admissions:
            over = asyncio.ensure_future(admissions.over(PATIENCE))
            await asyncio.sleep(0)
        done, _ = await asyncio.wait([over], timeout=0.01)
        assert not done
    await over


@pytest.mark.parametrize("waits_for", ["window", "room"])
async def test_a_text_that_waits_for_the_old_one_goes_to_the_new_one(
    tmp_path: Path, waits_for: str
) -> None:
    backends: list[WordBackend] = []

    def make(*given: Any) -> WordBackend:  # noqa: ANN401
        backends.append(WordBackend(*given))
        return backends[-1]

    limits = Limits(slots=1, max_batch_rows=1, at_once=0.0, alone_at_once=0.0)
    config = ServerConfig(
        "127.0.0.1:0",
        (tiny_checkpoint(tmp_path / "words"),),
        workers=2,  # one is plugged, the other warms the new one up
        threads=1,
        limits=replace(limits, max_queue_requests=1 if waits_for == "room" else 9),
        stream_window=1 if waits_for == "window" else 9,
        drain_grace=0.0,
    )
    app = App(config, make_backend=make)
    names, labels = ["plug", *map(str, range(9))], dict[str, str]()
    async with wire(await app.start()) as raw:
        call = raw.classifier.StreamClassifyText(timeout=PATIENCE)  # type: ignore[call-arg]
        await call.write(streamed((name, "plug" if name == "plug" else "easy") for name in names))
        await call.done_writing()
        old = app.models.get("")
        await backends[0].is_plugged()
        await eventually(lambda: old.engine.scheduler.queued == (waits_for == "room"))
        tiny_checkpoint(tmp_path / "words", NEW)
        swap = asyncio.ensure_future(app.swap())
        await eventually(lambda: isinstance(old.engine.scheduler.refusal(0.0), DrainingError))
        backends[0].unplug()
        async for message in call:
            labels |= {
                one.correlation_id: one.result.classification.label for one in message.results
            }
        await swap
    await app.stop()
    assert sorted(labels) == sorted(names)
    assert labels["plug"] == "yes"
    assert {labels[name] for name in names[2:]} == {"good"}


async def test_a_link_keeps_its_name_wherever_it_leads(tmp_path: Path) -> None:
    first, second = tiny_checkpoint(tmp_path / "v1"), tiny_checkpoint(tmp_path / "v2", NEW)
    current, served_names = tmp_path / "current", list[str]()
    current.symlink_to(first)
    config = ServerConfig("127.0.0.1:0", (current, first))  # one directory under two names

    async def names(app: App) -> list[str]:
        async with AsyncClient(await app.start()) as client:
            return [model.name for model in await client.list_models()]

    for leads_to in (first, second):
        current.unlink()
        current.symlink_to(leads_to)
        app = App(config, make_backend=WordBackend)
        served_names += await names(app)
        await app.stop()
    assert served_names == ["current", "v1"] * 2


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign"])
async def test_a_broken_checkpoint_changes_nothing_but_the_log(tmp_path: Path, damage: str) -> None:
    async with word_service(tmp_path) as service:
        before = await info(service.client)
        weights = tmp_path / "words" / "model.safetensors"
        match damage:
            case "missing":
                weights.unlink()
            case "truncated":
                weights.write_bytes(weights.read_bytes()[:-9])
            case _:
                tiny_checkpoint(tmp_path / "other", exit_layers=(2, 3))
                shutil.copy(tmp_path / "other" / "exits.json", tmp_path / "words")
        with written() as lines:
            await service.app.swap()
        assert await info(service.client) == before
        assert (await service.client.classify("easy")).label == "yes"
    (line,) = lines.of("offramp.swap")
    assert (line["outcome"], line["level"], line["old"]) == ("failed", "ERROR", before.digest)
    assert str(tmp_path / "words") in line["reason"]


async def test_an_unchanged_checkpoint_stays(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service:
        old = service.app.models.get("")
        with written() as lines:
            await service.app.swap()
        assert service.app.models.get("") is old
    assert [line["outcome"] for line in lines.of("offramp.swap")] == ["unchanged"]


async def test_gauges_follow_the_new_model_and_counters_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
    telemetry = configure()
    async with word_service(tmp_path, telemetry=telemetry, shadow_share=0.5) as service:
        await service.client.classify("fine")
        tiny_checkpoint(tmp_path / "words", NEW, exit_layers=(1, 3))
        with written() as lines:
            await service.app.swap()
        await service.client.classify("fine")
        url = f"http://127.0.0.1:{telemetry.scrape_port}/metrics"
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
    series = re.findall(r"^(offramp_\w+\{.*\}) (\S+)$", page, re.MULTILINE)
    values = dict(series)
    assert len(values) == len(series)
    answered = [v for k, v in series if k.startswith("offramp_requests_total") and "answered" in k]
    assert sum(map(float, answered)) == 2
    assert values['offramp_swaps_total{offramp_model="words",offramp_outcome="swapped"}'] == "1.0"
    assert not any("shadow_agreement" in k and 'offramp_exit="1"' in k for k in values)
    (line,) = lines.of("offramp.swap")
    assert line["old"] != line["new"]
    assert line["seconds"] > 0


async def test_sighup_swaps_a_real_server(tmp_path: Path) -> None:
    first, second = tiny_checkpoint(tmp_path / "first"), tiny_checkpoint(tmp_path / "second", NEW)
    current = tmp_path / "current"
    current.symlink_to(first)
    with served("--checkpoint", current) as server:
        async with AsyncClient(server.address) as client:
            before = await info(client)
            assert before.labels == OLD
            current.unlink()
            current.symlink_to(second)
            server.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(30):
                while (await info(client)).digest == before.digest:
                    assert (await client.classify("fine film")).label in {*OLD, *NEW}
            assert (await client.classify("fine film")).label in NEW
            assert (await info(client)).name == before.name == "current"
        server.process.terminate()
        assert await asyncio.to_thread(server.process.wait, 30) == 0
