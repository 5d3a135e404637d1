"""`offramp watch`: its figures from known scrapes, and its picture of a real server."""

import asyncio
import gc
import http.server
import re
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from math import isnan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from service import word_service

from offramp.cli.endpoint import metrics_addresses
from offramp.cli.figures import Figures
from offramp.cli.scrape import Scrape
from offramp.cli.screen import sparkline
from offramp.cli.watch import Watch, main
from offramp.server.telemetry.setup import configure

BEFORE = """
# TYPE offramp_exits_total counter
offramp_exits_total{offramp_exit="0"} 10.0
offramp_exits_total{offramp_exit="5"} 0.0
# TYPE offramp_layers_run_total counter
offramp_layers_run_total 10.0
# TYPE offramp_layers_full_total counter
offramp_layers_full_total 60.0
# TYPE offramp_request_total_duration_seconds histogram
offramp_request_total_duration_seconds_bucket{le="0.1"} 10.0
offramp_request_total_duration_seconds_bucket{le="0.2"} 10.0
offramp_request_total_duration_seconds_bucket{le="+Inf"} 10.0
"""
NOW = """
# TYPE offramp_exits_total counter
offramp_exits_total{offramp_exit="0"} 30.0
offramp_exits_total{offramp_exit="5"} 20.0
# TYPE offramp_layers_run_total counter
offramp_layers_run_total 150.0
# TYPE offramp_layers_full_total counter
offramp_layers_full_total 300.0
# TYPE offramp_request_total_duration_seconds histogram
offramp_request_total_duration_seconds_bucket{le="0.1"} 20.0
offramp_request_total_duration_seconds_bucket{le="0.2"} 50.0
offramp_request_total_duration_seconds_bucket{le="+Inf"} 50.0
# TYPE offramp_rejections_total counter
offramp_rejections_total{error_type="QUEUE_FULL"} 10.0
# TYPE offramp_queue_requests gauge
offramp_queue_requests 90.0
# TYPE offramp_queue_limit gauge
offramp_queue_limit 100.0
# TYPE offramp_shadow_drift gauge
offramp_shadow_drift 1.0
"""


def test_figures_are_differences_and_what_is_wrong_is_said() -> None:
    figures = Figures(Scrape.of(BEFORE, 0.0), Scrape.of(NOW, 10.0))
    assert figures.answers == pytest.approx(4)
    assert figures.exits() == pytest.approx({0: 2, 5: 2})
    assert figures.saved == pytest.approx(1 - 140 / 240)
    total = "offramp.request.total.duration"
    assert figures.quantile(total, 0.5) == pytest.approx(0.1 + 0.1 / 3)
    assert figures.ills() == [
        "1.0 requests a second refused: QUEUE_FULL",
        "the queue is 90% full",
        "90 requests are held and no step runs",
        "early answers agree with full depth less often than promised",
    ]


@given(counts=st.lists(st.integers(1, 10**9), min_size=2, max_size=5), took=st.floats(0.3, 9.0))
def test_of_what_does_not_change_nothing_is_left(counts: list[int], took: float) -> None:
    told = "\n".join(
        ["# TYPE offramp_rejections_total counter"]
        + [
            f'offramp_rejections_total{{error_type="QUEUE_FULL",offramp_model="m{at}"}} {count}'
            for at, count in enumerate(counts)
        ]
    )
    figures = Figures(Scrape.of(told, 0.0), Scrape.of(told, took))
    assert figures.rate("offramp.rejections") == 0
    assert figures.ills() == []


def test_exits_are_in_the_order_of_their_numbers() -> None:
    told = "".join(f'offramp_exits_total{{offramp_exit="{at}"}} 1\n' for at in range(12))
    scrape = Scrape.of("# TYPE offramp_exits_total counter\n" + told, 0.0)
    assert list(Figures(scrape, scrape).exits()) == list(range(12))


@pytest.mark.parametrize(
    "page", ['<html><body class="a" {}>x</body></html>', '{="1"} 2', 'offramp_x{, ="b"} 3']
)
def test_a_page_of_something_else_is_told_as_such(page: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Scrape.of(page + "\n", 0.0)


def test_a_quiet_server_has_no_quantiles_and_no_ills() -> None:
    same = Scrape.of(BEFORE, 0.0)
    figures = Figures(same, same)
    assert figures.answers == 0
    assert isnan(figures.saved)
    assert isnan(figures.quantile("offramp.request.total.duration", 0.99))
    assert figures.ills() == []
    assert sparkline([0.0, 1.0, float("nan"), 2.0]) == "▁▅ █"


async def test_a_picture_of_a_real_server(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
    request.addfinalizer(gc.unfreeze)
    gc.collect()
    gc.freeze()  # a collection of all that is loaded would hold the loop
    telemetry = configure()
    async with word_service(tmp_path, telemetry=telemetry) as service:
        arguments = [f"127.0.0.1:{telemetry.scrape_port}", "--once", "--interval", "0.3"]
        done = asyncio.create_task(asyncio.to_thread(main, arguments))
        while not done.done():
            await service.client.classify("easy")
        assert await done == 0
    shown = capsys.readouterr().out
    for word in ("answers/s", "p50", "p99", "layers saved", "exit 0", "nothing is wrong"):
        assert word in shown


def test_a_server_without_metrics_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["127.0.0.1:1"]) == 1
    assert "OTEL_METRICS_EXPORTER=prometheus" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("localhost", ["localhost:9464"]),
        ("localhost:80", ["localhost:80"]),
        ("localhost:80-82", ["localhost:80", "localhost:81", "localhost:82"]),
        ("::1", ["[::1]:9464"]),
        ("[::1]", ["[::1]:9464"]),
        ("[::1]:80-81", ["[::1]:80", "[::1]:81"]),
        ("fe80::1%eth0", ["[fe80::1%eth0]:9464"]),
    ],
)
def test_a_host_may_be_any_address(host: str, addresses: list[str]) -> None:
    assert list(metrics_addresses(host)) == addresses


class Told:
    """A server that answers what it is told to; None hangs up, an event keeps it waiting."""

    def __init__(self) -> None:
        self.says: str | threading.Event | None = BEFORE
        told = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if isinstance(told.says, threading.Event):
                    told.says.wait()
                elif told.says is not None:
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(told.says.encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"


@contextmanager
def telling() -> Generator[Told]:
    found = Told()
    thread = threading.Thread(target=found.server.serve_forever, args=(0.01,))
    thread.start()
    yield found
    if isinstance(found.says, threading.Event):
        found.says.set()
    found.server.shutdown()
    found.server.server_close()
    thread.join()


@pytest.fixture
def told() -> Generator[Told]:
    with telling() as found:
        yield found


@pytest.fixture
def second() -> Generator[Told]:
    with telling() as found:
        yield found


def shown(watch: Watch) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(watch.picture())
    return capture.get()


@pytest.mark.parametrize("says", [None, "what is this", "# TYPE foo gauge\nfoo 1\n"])
def test_a_look_without_an_answer_is_told_and_the_next_one_may_have_one(
    told: Told, says: str | None
) -> None:
    watch = Watch([told.address], 1.0)
    watch.look()
    assert "a second look comes" in shown(watch)
    for after in (BEFORE, NOW):
        told.says = says
        watch.look()
        assert re.search(r"no answer since \d\d:\d\d:\d\d: \w", shown(watch))
        told.says = after
        watch.look()
        picture = shown(watch)
        assert "no answer since" not in picture
        assert "answers/s" in picture


def test_a_slow_look_has_no_answer(told: Told) -> None:
    watch = Watch([told.address], 1.0, patience=1.0)
    watch.look()
    told.says = threading.Event()
    watch.look()
    assert "timed out" in shown(watch)


def test_a_server_that_starts_anew_is_no_fall(told: Told) -> None:
    watch = Watch([told.address], 1.0)
    told.says = NOW
    watch.look()
    told.says = BEFORE
    watch.look()
    assert "a second look comes" in shown(watch)
    told.says = NOW
    watch.look()
    assert "answers/s" in shown(watch)
    assert Scrape.of(NOW, 1.0).follows(Scrape.of(BEFORE, 0.0))
    assert not Scrape.of(BEFORE, 1.0).follows(Scrape.of(NOW, 0.0))


def test_several_servers_are_one_picture_and_whoever_is_ill_is_named(
    told: Told, second: Told
) -> None:
    watch = Watch([told.address, second.address], 1.0)
    watch.look()
    second.says = None
    watch.look()
    assert f"{second.address}: no answer since" in shown(watch)
    told.says = second.says = NOW
    watch.look()
    picture = shown(watch)
    assert f"{told.address}, {second.address}" in picture
    assert f"{told.address}: the queue is 90% full" in picture
    assert f"{second.address}: the queue is 90% full" in picture
    assert "no answer" not in picture
    second.says = BEFORE  # started anew
    watch.look()
    assert "a second look comes" in shown(watch)


def test_one_server_of_several_is_enough_to_begin(
    told: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([told.address, "127.0.0.1:1", "--once", "--interval", "0.1"]) == 0
    assert "127.0.0.1:1: no answer since the start: " in capsys.readouterr().out


def test_pictures_follow_each_other_where_there_is_no_terminal(
    told: Told, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(3))

    def sleep(_: float) -> None:
        if next(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("offramp.cli.watch.time.sleep", sleep)
    assert main([told.address]) == 0
    assert capsys.readouterr().out.count(f"offramp · {told.address}") == 2


SERVER = """
# TYPE offramp_exits_total counter
offramp_exits_total{{offramp_exit="0"}} {answers}
# TYPE offramp_device_memory_used_bytes gauge
offramp_device_memory_used_bytes{{offramp_device="cuda"}} 3.0
# TYPE offramp_device_memory_limit_bytes gauge
offramp_device_memory_limit_bytes{{offramp_device="cuda"}} 10.0
# TYPE offramp_queue_drain_predicted_seconds gauge
offramp_queue_drain_predicted_seconds{{offramp_model="a"}} {drain}
# TYPE offramp_shadow_agreement gauge
offramp_shadow_agreement{{offramp_exit="all",offramp_model="a"}} {agreement}
"""


def test_rates_of_servers_add_up_and_gauges_as_they_should() -> None:
    def scrape(host: str, time: float, **told: float) -> Scrape:
        return Scrape.of(SERVER.format(**told), time, host)

    before = [scrape(host, 0.0, answers=0, drain=9, agreement=0.5) for host in "aab"]
    now = [
        scrape("a", 10.0, answers=10, drain=1, agreement=0.99),
        scrape("a", 10.0, answers=20, drain=2, agreement=0.98),
        scrape("b", 10.0, answers=30, drain=1, agreement=0.97),
    ]
    figures = Figures(Scrape.joined(before), Scrape.joined(now))
    assert figures.answers == pytest.approx(6)
    assert figures.drain == 2
    assert figures.agreement == 0.97
    assert figures.memory == pytest.approx(0.6)  # two have the card of a host together


def test_the_live_screen_outlives_its_server(
    told: Told, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        told.says = NOW if len(naps) == 1 else None
        if len(naps) == 4:
            raise KeyboardInterrupt

    terminal = Console(force_terminal=True, width=120, height=40)
    monkeypatch.setattr("offramp.cli.watch.console", lambda: terminal)
    monkeypatch.setattr(time, "sleep", nap)
    assert main([told.address, "--interval", "0.5"]) == 0
    assert naps == [0.5] * 4
    assert "no answer since" in capsys.readouterr().out


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "inf", "1e-320", "soon"])
def test_an_interval_is_seconds(interval: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["127.0.0.1:1", f"--interval={interval}"])
    assert ended.value.code == 2
    assert "--interval" in capsys.readouterr().err


@pytest.mark.parametrize(
    "host", ["http://localhost:9464", "", "localhost:abc", "localhost:", "localhost:9-8", ":9464"]
)
def test_what_is_no_host_is_refused(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([host])
    assert "must be HOST, HOST:PORT or" in capsys.readouterr().err
