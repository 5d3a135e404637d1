"""`offramp bench`: load on a server, and what its answers took, from when each was due."""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import cast

import grpc
import uvloop

from offramp.cli.access import credentials_of, token_of
from offramp.cli.load.arrivals import Pattern, arrivals, read_trace
from offramp.cli.load.circumstances import circumstances, yardstick
from offramp.cli.load.inputs import read_inputs, read_texts
from offramp.cli.load.options import MOST_MESSAGES, TIMEOUT, check, parse
from offramp.cli.load.plot import latency_plot
from offramp.cli.load.report import Summary, summarize
from offramp.cli.load.run import (
    Sample,
    closed_loop,
    open_loop,
    open_loop_stream,
    saturated_stream,
)
from offramp.cli.load.saturation import Probe, Saturation, saturation
from offramp.cli.load.target import InTurn, OfframpTarget, Target, adapter
from offramp.cli.outputs import check_file
from offramp.client import OfframpError, Options, Text

WARM_UP_SECONDS = 1.0
REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
"""Answers that say that the options are wrong."""

INTERRUPTED = 130
ASKED, PAUSE = 3, 0.2
"""How often a server is asked at the end whether it is still there, and the seconds between."""

LATE = 0.1
"""Share of the p99 from which it is told that the generator itself was late."""


@dataclass(slots=True)
class Run:
    """What is done of a run, also where it ends early, and how it ended if not well."""

    samples: list[Sample] = field(default_factory=list[Sample])
    probes: list[Probe] = field(default_factory=list[Probe])
    found: Saturation | None = None
    ended: str = ""
    interrupted: bool = False


def main(arguments: Sequence[str]) -> int:
    """Generate load; returns the exit status, 130 if interrupted, with what was done by then."""
    args = parse(arguments, __doc__)
    run, before = Run(), None
    try:
        check_file(args.json)
        check_file(args.plot, (".svg",))
        check(args)
        texts = (read_texts if args.adapter else read_inputs)(args.texts)
        trace = read_trace(args.trace) if args.trace else None
        target = InTurn(_target(args) for _ in range(args.connections))
        before = yardstick()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            measure = partial(_measure, target, texts, trace, args, run)
            runner.run(_load(target, texts, args.address, measure, run))
    except KeyboardInterrupt:
        run.interrupted, run.ended = True, "interrupted: this is what was done by then"
    except (OSError, ValueError) as error:
        print(f"offramp bench: {error}", file=sys.stderr)
        return 1
    summary = summarize(run.samples)
    try:  # files first: whoever reads the figures may have seen enough of them
        if args.json:
            given = {name: str(value) for name, value in vars(args).items() if value is not None}
            record = {
                **circumstances(),
                "yardstick_gflops": [before, yardstick()],
                "arguments": given,
                "summary": summary.to_dict(),
                "saturation": _searched(run),
            }
            written = json.dumps(record, indent=1, allow_nan=False)
            args.json.write_text(written + "\n", encoding="utf-8")
        if args.plot and summary.answered:
            drawn = latency_plot(str(args.address), {"all": run.samples})
            args.plot.write_text(drawn, encoding="utf-8")
    finally:
        _print(summary, run, calls=not args.stream)
    if run.ended:
        print(f"offramp bench: {run.ended}", file=sys.stderr)
    if run.interrupted:
        return INTERRUPTED
    return 0 if summary.answered and not run.ended else 1


def _searched(run: Run) -> dict[str, object] | None:
    """What a search found; where it ended early, the rates that it tried; None without one."""
    if run.found:
        return asdict(run.found)
    return {"rate": None, "probes": [asdict(one) for one in run.probes]} if run.probes else None


async def _load(
    target: Target[Text],
    texts: Sequence[Text],
    address: str,
    measure: Callable[[], Awaitable[None]],
    run: Run,
) -> None:
    """Measure a server that answers a text, before and after."""
    async with target:
        if error := await _asked(target, texts[0]):
            refused = isinstance(error, OfframpError) and error.code in REFUSALS
            did = "refuses the first text" if refused else "does not answer"
            raise ValueError(f"{address} {did}: {error}") from error
        await closed_loop(target, texts, 1, WARM_UP_SECONDS)
        await measure()
        for _ in range(ASKED):
            if not (error := await _asked(target, texts[0])):
                return
            await asyncio.sleep(PAUSE)
        run.ended = f"{address} no longer answers: {error}"


async def _asked(target: Target[Text], text: Text) -> Exception | None:
    """What came of a text in place of an answer; any error counts, as it does under load."""
    try:
        await target.classify(text)
    except Exception as error:  # noqa: BLE001
        return error
    return None


async def _measure(
    target: Target[Text],
    texts: Sequence[Text],
    trace: list[float] | None,
    args: argparse.Namespace,
    run: Run,
) -> None:
    if args.saturate and args.stream:
        await saturated_stream(target, texts, args.seconds, args.streams, run.samples)
        return
    if args.in_flight is not None:
        await closed_loop(target, texts, args.in_flight, args.seconds, samples=run.samples)
        return
    rate = args.rate
    if args.saturate:
        run.found = await saturation(target, texts, args.seconds, probes=run.probes)
        rate = min(run.found.rate, MOST_MESSAGES / args.seconds)
    pattern = Pattern(args.pattern or Pattern.POISSON)
    due = trace or (arrivals(pattern, rate, args.seconds, args.seed or 0) if rate else [])
    if not due and not run.found:
        raise ValueError(f"at {rate:g} texts a second none was due in {args.seconds:g} s")
    if args.stream:
        await open_loop_stream(target, texts, due, args.streams, run.samples)
    else:
        await open_loop(target, texts, due, run.samples)


def _target(args: argparse.Namespace) -> Target[Text]:
    if args.adapter:
        return cast("Target[Text]", adapter(args.adapter, args.address))
    options = Options()
    if args.threshold is not None:
        options["threshold"] = args.threshold
    if args.model:
        options["model"] = args.model
    timeout = None if args.stream else args.timeout or TIMEOUT
    return OfframpTarget(args.address, timeout, options, credentials_of(args), token_of(args))


def _print(summary: Summary, run: Run, *, calls: bool) -> None:
    if run.found:
        print(f"saturation   {run.found} texts/s ({run.found.closed_loop:.1f} in a closed loop)")
    elif run.probes:
        for probe in run.probes:
            told = "more than it sustains" if probe.grew else "sustained"
            print(f"tried        {probe.rate:.1f} texts/s: {told}, {probe.answered:.1f} answered")
    print(f"answered     {summary.answered} of {summary.messages} in {summary.seconds:.1f} s")
    print(f"throughput   {summary.answered_per_second:.1f} texts/s")
    if summary.answered:
        print(
            f"latency ms   p50 {summary.p50:.2f}  p90 {summary.p90:.2f}  p99 {summary.p99:.2f}"
            f"  mean {summary.mean:.2f}  longest {summary.longest:.2f}"
        )
    if calls and summary.late_p99 > LATE * summary.p99:  # a stream is held back by its server
        print(f"generator    late by {summary.late_p99:.2f} ms (p99), which latency counts too")
    for name, count in summary.errors.items():
        print(f"error        {name}: {count}")
    while_searching = sum((Counter(probe.errors) for probe in run.probes), Counter[str]())
    for name, count in while_searching.items():
        print(f"error        {name}: {count}, in the search for the saturation")
    for exit_index, count in summary.exits.items():
        share = count / summary.answered
        print(f"exit {exit_index:<7} {share:6.1%} {'█' * round(share * 40)}")
    if summary.mean_layers is not None:
        print(f"mean layers  {summary.mean_layers:.2f}")
