"""The GPU's backend, run on a CPU without graphs, says what the reference module says."""

import itertools
import random
from collections.abc import Generator
from dataclasses import replace
from math import inf, isnan
from pathlib import Path

import pytest
import torch
from tiny import tiny_checkpoint, word

from offramp.model.checkpoint import Checkpoint, load_checkpoint
from offramp.model.config import Pooling
from offramp.model.device_stages import stages_of
from offramp.model.exits import MultiExitModel
from offramp.model.packing import PackedTokens
from offramp.model.precision import Precision
from offramp.model.resident import ResidentStages, token_buckets
from offramp.model.rules import ExitRule, RuleKind
from offramp.model.tokenizer import Tokens
from offramp.scheduler.backend import Batch
from offramp.scheduler.reading import Reading
from offramp.scheduler.request import Request, Terms
from offramp.server.device import DeviceBackend

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Generator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def types_of_pair(length: int) -> tuple[int, ...]:
    """Of two texts of half this length."""
    first = length // 2
    return (0,) * first + (1,) * (length - first)


def requests_of(lengths: tuple[int, ...], slots: tuple[int, ...]) -> tuple[Request, ...]:
    draw = random.Random(0)
    terms = Terms(threshold=inf, min_exit=0, max_exit=0)
    return tuple(
        Request(
            Tokens.of(draw.choices(range(8), k=n), types_of_pair(n) if slot % 2 else ()),
            n,
            terms,
            0.0,
            deliver=lambda _: None,
            slot=slot,
        )
        for n, slot in zip(lengths, slots, strict=True)
    )


def wanted(checkpoint: Checkpoint, request: Request) -> list[torch.Tensor]:
    assert isinstance(request.payload, Tokens)
    logits = checkpoint.model(PackedTokens.of([request.payload], CPU))
    temperatures = checkpoint.calibration.temperatures
    return [
        (stage / temperature).softmax(-1)[0]
        for stage, temperature in zip(logits, temperatures, strict=True)
    ]


def pooled(directory: Path, pooling: Pooling) -> Checkpoint:
    """A tiny one that pools its tokens so, with weights of its own."""
    loaded = load_checkpoint(tiny_checkpoint(directory / "tiny"))
    config = replace(loaded.config, pooling=pooling)
    torch.manual_seed(1)
    model = MultiExitModel(config).eval().requires_grad_(requires_grad=False)
    return replace(loaded, model=model, config=config)


def assert_says(readings: list[Reading], probabilities: list[torch.Tensor]) -> None:
    for reading, expected in zip(readings, probabilities, strict=True):
        assert reading.label == int(expected.argmax())
        assert reading.confidence == pytest.approx(float(expected.max()), abs=1e-5)
        assert list(reading.probabilities) == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("pooling", list(Pooling))
@torch.inference_mode()
def test_rows_that_meet_at_different_stages(pooling: Pooling, tmp_path: Path) -> None:
    checkpoint = pooled(tmp_path, pooling)
    for parameter in checkpoint.model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    backend = DeviceBackend(
        checkpoint, 6, CPU, max_rows=4, max_tokens=40, precision=Precision.FLOAT32
    )
    for piece in backend.warm(40):
        piece()
    early, late = requests_of((3, 16, 7), (5, 0, 2)), requests_of((9, 1), (1, 4))
    said: dict[Request, list[Reading]] = {request: [] for request in (*early, *late)}
    reference = {request: wanted(checkpoint, request) for request in said}
    for stage, rows in [
        (0, early),
        (1, early[::-1]),
        (0, late),
        (1, late),
        (2, (late[1], *early)),
        (2, late[:1]),
    ]:
        for request, reading in zip(rows, backend.run(Batch(stage, rows, 0.0)), strict=True):
            said[request].append(reading)
    for request, readings in said.items():
        assert_says(readings, reference[request])


def test_a_step_that_is_too_large_is_refused_and_harms_nobody(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint(tmp_path / "tiny"))
    backend = DeviceBackend(
        checkpoint, 4, CPU, max_rows=2, max_tokens=20, precision=Precision.FLOAT32
    )
    rows = requests_of((3, 4, 5), (0, 1, 2))
    poison = Request(object(), 3, rows[0].terms, 0.0, deliver=rows[0].deliver, slot=3)
    for _ in range(3):
        with pytest.raises(TypeError, match="payload must be Tokens, not object"):
            backend.run(Batch(0, (poison,), 0.0))
        with pytest.raises(ValueError, match="3 rows are more than the 2"):
            backend.run(Batch(0, rows, 0.0))
    with pytest.raises(ValueError, match="tokens are more than"):
        backend.run(Batch(0, requests_of((20, 20), (0, 1)), 0.0))
    assert len(backend.run(Batch(0, rows[:2], 0.0))) == 2


@pytest.mark.parametrize("pooling", list(Pooling))
@torch.inference_mode()
def test_undefined_numbers_stay_in_their_row(pooling: Pooling, tmp_path: Path) -> None:
    checkpoint = pooled(tmp_path, pooling)
    checkpoint.model.encoder.embeddings.word.weight[word("poison")] = 3e38
    backend = DeviceBackend(
        checkpoint, 4, CPU, max_rows=4, max_tokens=40, precision=Precision.FLOAT32
    )
    first, last = requests_of((5, 9), (0, 2))
    overflowing = replace(first, payload=Tokens.of((3, word("poison"), 5)), tokens=3, slot=1)
    for rows in ((first, overflowing, last), (last, first)):
        for stage in range(3):
            readings = backend.run(Batch(stage, rows, 0.0))
            for request, reading in zip(rows, readings, strict=True):
                if request is overflowing:
                    assert isnan(reading.score)
                else:
                    assert_says([reading], [wanted(checkpoint, request)[stage]])


class Event:
    """A step's event on a GPU: passed when it says so, unless the card is gone."""

    def __init__(self) -> None:
        self.passed = self.fails = False

    def record(self) -> None:
        self.passed = False

    def query(self) -> bool:
        self.synchronize()
        return self.passed

    def synchronize(self) -> None:
        if self.fails:
            raise RuntimeError("the card is gone")


def test_more_steps_than_planned_fly_at_once_and_a_lost_one_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint(tmp_path / "tiny"))
    backend = DeviceBackend(
        checkpoint, 4, CPU, max_rows=2, max_tokens=20, precision=Precision.FLOAT32
    )
    batches = [Batch(0, requests_of((3 + slot,), (slot,)), 0.0) for slot in range(3)]
    wanted = [list(backend.run(batch)) for batch in batches]
    make = backend._buffers  # pyright: ignore[reportPrivateUsage]
    events: list[Event] = []

    def buffers() -> object:
        made = make()
        events.append(Event())
        monkeypatch.setattr(made, "done", events[-1])
        return made

    backend._free.clear()  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(backend, "_buffers", buffers)
    for _ in range(2):
        steps = [backend.launch(batch) for batch in batches]
        assert not any(step.done() for step in steps)
        for event in events:
            event.passed = True
        assert all(step.done() for step in steps)
        assert [list(step.readings()) for step in steps] == wanted
    assert len(events) == 3
    lost = backend.launch(batches[0])
    for event in events:
        event.fails = True
    assert lost.done()
    with pytest.raises(RuntimeError, match="the card is gone"):
        lost.readings()
    for event in events:
        event.fails = False
    assert list(backend.run(batches[0])) == wanted[0]
    assert len(events) == 3


def test_int8_is_refused(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint(tmp_path / "tiny"))
    with pytest.raises(ValueError, match="int8 is not available"):
        DeviceBackend(checkpoint, 4, CPU, max_rows=2, max_tokens=20, precision=Precision.INT8)


def test_other_rules_than_the_kernels_are_refused(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint(tmp_path / "tiny"))
    rule = ExitRule(RuleKind.ENTROPY)
    checkpoint = checkpoint.with_calibration(replace(checkpoint.calibration, rule=rule))
    with pytest.raises(ValueError, match="max_prob alone, not entropy"):
        DeviceBackend(checkpoint, 4, CPU, max_rows=2, max_tokens=20)


def test_steps_beyond_what_kernels_can_count_are_refused(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint(tmp_path / "tiny"))
    tokens = 2**31 // (3 * checkpoint.config.encoder.hidden_size)
    with pytest.raises(ValueError, match=rf"up to {tokens} tokens and 2 rows.* allow fewer"):
        DeviceBackend(
            checkpoint, 4, CPU, max_rows=2, max_tokens=tokens, precision=Precision.FLOAT32
        )


def test_buckets_waste_at_most_half() -> None:
    buckets = token_buckets(8192)
    assert buckets[0] == 16
    assert buckets[-1] == 8192
    assert all(after <= before * 1.5 for before, after in itertools.pairwise(buckets))


@torch.inference_mode()
def test_thresholds_of_each_exit_bend_the_scores(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint(tmp_path / "tiny"))
    rule = ExitRule(exponents=(0.5, 1.0, 3.0))
    checkpoint = checkpoint.with_calibration(replace(checkpoint.calibration, rule=rule))
    backend = DeviceBackend(
        checkpoint, 4, CPU, max_rows=2, max_tokens=20, precision=Precision.FLOAT32
    )
    rows = requests_of((3, 7), (0, 2))
    for stage, exponent in enumerate(rule.exponents):
        for request, reading in zip(rows, backend.run(Batch(stage, rows, 0.0)), strict=True):
            confidence = float(wanted(checkpoint, request)[stage].max())
            assert reading.score == pytest.approx(confidence**exponent, abs=1e-5)


def test_kernels_that_do_not_work_here_or_go_wrong_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("triton", reason="Triton is made for Linux on x86-64 alone")
    from offramp.model import fused, trial  # noqa: PLC0415

    checkpoint = load_checkpoint(tiny_checkpoint(tmp_path / "tiny"))
    card, monkey = torch.device("cuda"), monkeypatch.setattr

    def chosen(difference: float | Exception) -> type[ResidentStages]:
        def tried(*_: object) -> float:
            if isinstance(difference, Exception):
                raise difference
            return difference

        monkey(trial, "largest_difference", tried)
        return stages_of(checkpoint, torch.float16, card)

    assert chosen(0.0) is ResidentStages  # heads of 4 are too narrow for it
    monkey(fused, "fits", lambda _: True)
    assert chosen(0.0) is fused.FusedStages
    assert not caplog.records
    assert chosen(0.5) is chosen(float("nan")) is ResidentStages
    assert chosen(RuntimeError("no C compiler")) is ResidentStages
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR", "WARNING"]
    assert "no C compiler" in caplog.text
    assert stages_of(checkpoint, torch.float32, CPU) is ResidentStages
