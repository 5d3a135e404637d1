"""`offramp bench`: load on a server, and what its answers took, from when each was due."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import grpc
import uvloop

from offramp.cli.access import credentials_of, token_of
from offramp.cli.load.arrivals import Pattern, arrivals, read_trace
from offramp.cli.load.options import RATE, TIMEOUT, check, parse
from offramp.cli.load.plot import latency_plot
from offramp.cli.load.report import Summary, circumstances, summarize, yardstick
from offramp.cli.load.run import (
    Sample,
    closed_loop,
    open_loop,
    open_loop_stream,
    saturated_stream,
)
from offramp.cli.load.saturation import Saturation, saturation
from offramp.cli.load.target import InTurn, OfframpTarget, Target, adapter
from offramp.cli.outputs import check_file
from offramp.cli.texts import read_file
from offramp.client import OfframpError, Options, Text

WARM_UP_SECONDS = 1.0
REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
"""Answers that say that the options are wrong."""


def main(arguments: Sequence[str]) -> int:
    """Generate load; returns the exit status."""
    args = parse(arguments, __doc__)
    try:
        check_file(args.json)
        check_file(args.plot, (".svg",))
        check(args)
        texts = read_texts(args.texts)
        trace = read_trace(args.trace) if args.trace else None
        target = InTurn(_target(args) for _ in range(args.connections))
        before = yardstick()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            samples, found, lost = runner.run(_load(target, texts, trace, args))
    except (OSError, ValueError) as error:
        print(f"offramp bench: {error}", file=sys.stderr)
        return 1
    summary = summarize(samples)
    try:  # files first: whoever reads the figures may have seen enough of them
        if args.json:
            given = {name: str(value) for name, value in vars(args).items() if value is not None}
            record = {
                **circumstances(),
                "yardstick_gflops": [before, yardstick()],
                "arguments": given,
                "summary": summary.to_dict(),
                "saturation": asdict(found) if found else None,
            }
            written = json.dumps(record, indent=1, allow_nan=False)
            args.json.write_text(written + "\n", encoding="utf-8")
        if args.plot and summary.answered:
            drawn = latency_plot(str(args.address), {"all": samples})
            args.plot.write_text(drawn, encoding="utf-8")
    finally:
        _print(summary, found)
    if lost:
        print(f"offramp bench: {lost}", file=sys.stderr)
    return 0 if summary.answered and not lost else 1


def read_texts(path: Path) -> list[str]:
    """Texts of a file, one a line, or JSON objects with a `text`; gzipped or not.

    Raises ValueError naming the line or the file that is no such, OSError where it can't be read.
    """
    texts = [first_of(text) for text in read_file(path)]
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise ValueError(f"{path} holds no texts")
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{path} is not UTF-8 in a line that begins {text[:40]!r}") from None
    return texts


def first_of(text: Text) -> str:
    """The text, or the first of two: a server is asked to judge one at a time."""
    return text if isinstance(text, str) else text[0]


async def _load(
    target: Target, texts: Sequence[str], trace: list[float] | None, args: argparse.Namespace
) -> tuple[list[Sample], Saturation | None, str]:
    """What was sent, the saturation if that was looked for, and how the server was lost, if so."""
    async with target:
        try:
            await target.classify(texts[0])
        except Exception as error:
            refused = isinstance(error, OfframpError) and error.code in REFUSALS
            did = "refuses the first text" if refused else "does not answer"
            raise ValueError(f"{args.address} {did}: {error}") from error
        await closed_loop(target, texts, 1, WARM_UP_SECONDS)
        samples, found = await _measured(target, texts, trace, args)
        try:
            await target.classify(texts[0])
        except Exception as error:  # noqa: BLE001 - as any that it is counted by
            return samples, found, f"{args.address} no longer answers: {error}"
        return samples, found, ""


async def _measured(
    target: Target, texts: Sequence[str], trace: list[float] | None, args: argparse.Namespace
) -> tuple[list[Sample], Saturation | None]:
    if args.saturate and not args.stream:
        found = await saturation(target, texts, args.seconds)
        due = arrivals(Pattern.POISSON, max(found.rate, 1.0), args.seconds)
        return await open_loop(target, texts, due), found
    if args.saturate:
        return await saturated_stream(target, texts, args.seconds, args.streams), None
    if args.in_flight is not None:
        return await closed_loop(target, texts, args.in_flight, args.seconds), None
    rate = RATE if args.rate is None else args.rate
    pattern = Pattern(args.pattern or Pattern.POISSON)
    due = trace or arrivals(pattern, rate, args.seconds, args.seed)
    if args.stream:
        return await open_loop_stream(target, texts, due, args.streams), None
    return await open_loop(target, texts, due), None


def _target(args: argparse.Namespace) -> Target:
    if args.adapter:
        return adapter(args.adapter, args.address)
    options = Options()
    if args.threshold is not None:
        options["threshold"] = args.threshold
    if args.model:
        options["model"] = args.model
    timeout = None if args.stream else args.timeout or TIMEOUT
    return OfframpTarget(args.address, timeout, options, credentials_of(args), token_of(args))


def _print(summary: Summary, found: Saturation | None) -> None:
    if found:
        print(f"saturation   {found.rate:.1f} texts/s ({found.closed_loop:.1f} in a closed loop)")
    print(f"answered     {summary.answered} of {summary.messages} in {summary.seconds:.1f} s")
    print(f"throughput   {summary.answered_per_second:.1f} texts/s")
    if summary.answered:
        print(
            f"latency ms   p50 {summary.p50:.2f}  p90 {summary.p90:.2f}  p99 {summary.p99:.2f}"
            f"  mean {summary.mean:.2f}  longest {summary.longest:.2f}"
        )
    for name, count in summary.errors.items():
        print(f"error        {name}: {count}")
    for exit_index, count in summary.exits.items():
        share = count / summary.answered
        print(f"exit {exit_index:<7} {share:6.1%} {'█' * round(share * 40)}")
    if summary.mean_layers is not None:
        print(f"mean layers  {summary.mean_layers:.2f}")
