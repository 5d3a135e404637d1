"""Figures of a load: what a summary says, when a queue grows, which rate is sustained."""

import random
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.cli.load.arrivals import Pattern, arrivals
from offramp.cli.load.plot import latency_plot, line_plot
from offramp.cli.load.report import percentile, summarize
from offramp.cli.load.run import Sample
from offramp.cli.load.saturation import Probe, Saturation, Search, answered, grew, sustained
from offramp.cli.load.target import Reply


def test_a_summary_counts_latency_from_due_and_what_failed_as_never_answered() -> None:
    good = [
        Sample(
            at / 10, at / 10 + at / 1000, at / 10 + (at + 1) / 100, Reply("a", at % 2, at % 2 + 1)
        )
        for at in range(100)
    ]
    summary = summarize([*good, Sample(20.0, 20.0, 30.0, None, "Lost")])
    assert (summary.messages, summary.answered, summary.errors) == (101, 100, {"Lost": 1})
    assert (summary.seconds, summary.answered_per_second) == pytest.approx((30, 100 / 30))
    latencies = (summary.mean, summary.p50, summary.p90, summary.p99, summary.longest)
    assert latencies == pytest.approx((505, 510, 910, 1000, 1000))
    assert summary.late_p99 == pytest.approx(98)
    assert (summary.exits, summary.mean_layers) == ({0: 50, 1: 50}, 1.5)


def test_answers_a_second_are_counted_from_the_start_to_the_last_answer() -> None:
    assert answered([Sample(0.0, 0.0, 1.0, Reply("a")), Sample(1.0, 1.0, 4.0, Reply("a"))]) == 0.5
    assert answered([Sample(0.0, 0.0, 1.0, None, "Refused")]) == 0.0


@pytest.mark.parametrize(("late", "grows"), [(0.5, False), (0.6, False), (1.5, True)])
def test_a_queue_that_stands_does_not_grow_and_neither_does_one_by_chance(
    late: float, *, grows: bool
) -> None:
    due = [at / 100 for at in range(3000)]  # each takes half a second, from some time on `late`
    samples = [Sample(at, at, at + (late if at > 20 else 0.5), Reply("a")) for at in due]
    assert grew(samples, 30.0) is grows


def test_a_queue_of_a_few_says_nothing_at_a_low_rate() -> None:
    samples = [Sample(at, at, at + (3.5 if at > 20 else 0.5), Reply("a")) for at in range(30)]
    assert not grew(samples, 30.0)


def test_a_queue_grows_above_what_is_served_and_not_below() -> None:
    def run(rate: float, service: float) -> list[Sample]:
        free = 0.0
        samples: list[Sample] = []
        for due in arrivals(Pattern.POISSON, rate, 30.0, seed=3):
            free = max(free, due) + random.Random(due).expovariate(1 / service)
            samples.append(Sample(due, due, free, Reply("a")))
        return samples

    assert not grew(run(80.0, 0.01), 30.0)
    assert grew(run(120.0, 0.01), 30.0)
    assert grew([Sample(0.0, 0.0, 0.1, None, "Refused")], 30.0)
    good, bad = Sample(0.0, 0.0, 0.1, Reply("a")), Sample(0.0, 0.0, 0.1, None, "Refused")
    assert not grew([good] * 99 + [bad], 30.0)
    assert grew([good] * 98 + [bad] * 2, 30.0)


def test_a_rate_that_was_not_answered_is_not_told_as_sustained() -> None:
    calm, hidden, more = (
        Probe(9.0, 8.9, grew=False),
        Probe(12.3, 9.6, grew=False),
        Probe(14.0, 9.0, grew=True),
    )
    assert sustained([calm, hidden, more]) == 9.6
    assert str(Saturation(9.6, 10.0, (calm, hidden, more))) == "9.6"
    assert str(Saturation(9.6, 10.0, (calm, hidden))) == "at least 9.6"
    assert str(Saturation(sustained([more]), 10.0, (more,))) == "below 14.0"


def test_percentiles_are_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert percentile([7.0], 0.5) == 7


def test_plots_are_svg_with_a_line_a_run() -> None:
    samples = [Sample(0.0, 0.0, 0.001 * i, Reply("a")) for i in range(1, 50)]
    root = ET.fromstring(latency_plot("a < b", {"ours": samples, "theirs": samples}))  # noqa: S314
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 2
    with pytest.raises(ValueError, match="nothing to plot"):
        line_plot("", "", "", {"none": [(0, 0)]}, log_y=True)


@given(capacity=st.floats(0.01, 2.5))
def test_the_search_finds_what_a_server_sustains_below_and_above_its_closed_loop(
    capacity: float,
) -> None:
    most = 100 * capacity
    search = Search(100.0, steps=6)
    while not search.done:
        search.learn(Probe(search.rate, min(search.rate, most), grew=search.rate > most))
    assert 0.85 * most <= sustained(search.probes) <= most
    assert str(Saturation(most, 100.0, tuple(search.probes))) == f"{most:.1f}"
