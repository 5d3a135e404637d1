"""`offramp bench`: load on a server, and what its answers took, from when each was due."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from math import inf
from pathlib import Path

import grpc
import uvloop

from offramp.cli.access import add_access, credentials_of, token_of
from offramp.cli.load.arrivals import Pattern, arrivals, read_trace
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
from offramp.cli.load.target import OfframpTarget, Target, adapter
from offramp.cli.outputs import check_file
from offramp.cli.texts import read_file
from offramp.client import OfframpError, Options, Text

WARM_UP_SECONDS = 1.0
TIMEOUT = 30.0
RATE = 50.0
REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
"""Answers that say that the options are wrong."""


def main(arguments: Sequence[str]) -> int:
    """Generate load; returns the exit status."""
    args = _parser().parse_args(arguments)
    try:
        check_file(args.json)
        check_file(args.plot)
        _check_one_load(args)
        _check_numbers(args)
        texts = read_texts(args.texts)
        trace = read_trace(args.trace) if args.trace else None
        target = adapter(args.adapter, args.address) if args.adapter else _offramp(args)
        before = yardstick()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            samples, found = runner.run(_load(target, texts, trace, args))
    except (OSError, ValueError) as error:
        print(f"offramp bench: {error}", file=sys.stderr)
        return 1
    summary = summarize(samples)
    _print(summary, found)
    if args.json:
        given = {name: str(value) for name, value in vars(args).items() if value is not None}
        record = {
            **circumstances(),
            "yardstick_gflops": [before, yardstick()],
            "arguments": given,
            "summary": asdict(summary),
            "saturation": asdict(found) if found else None,
        }
        args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if args.plot and summary.answered:
        args.plot.write_text(latency_plot(str(args.address), {"all": samples}), encoding="utf-8")
    return 0 if summary.answered else 1


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
) -> tuple[list[Sample], Saturation | None]:
    async with target:
        try:
            await target.classify(texts[0])
        except Exception as error:
            refused = isinstance(error, OfframpError) and error.code in REFUSALS
            did = "refuses the first text" if refused else "does not answer"
            raise ValueError(f"{args.address} {did}: {error}") from error
        await closed_loop(target, texts, 1, WARM_UP_SECONDS)
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


def _check_one_load(args: argparse.Namespace) -> None:
    """Raise ValueError where loads exclude each other: one of them would have no say."""
    given = {
        "--rate": args.rate is not None,
        "--trace": args.trace is not None,
        "--in-flight": args.in_flight is not None,
        "--saturate": args.saturate,
    }
    loads = [name for name, told in given.items() if told]
    if len(loads) > 1:
        raise ValueError(f"{' and '.join(loads)} are different loads; give one of them")
    if args.in_flight is not None and args.stream:
        raise ValueError("--in-flight counts calls; fill streams with --stream --saturate")
    if args.pattern is not None and len(loads) == 1 and loads[0] != "--rate":
        raise ValueError(f"--pattern is how a --rate comes; leave it or {loads[0]} out")
    if args.streams != 1 and not args.stream:
        raise ValueError("--streams counts streams; give --stream too")
    if args.timeout is not None and args.stream:
        raise ValueError("--timeout is a call's; a stream has none")


def _check_numbers(args: argparse.Namespace) -> None:
    """Raise ValueError of a number that no run can have."""
    for name in ("seconds", "rate", "timeout"):
        value = getattr(args, name)
        if value is not None and not 0 < value < inf:
            raise ValueError(f"--{name} must be a number above 0, not {value:g}")
    for name in ("in_flight", "streams"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, not {value}")


def _offramp(args: argparse.Namespace) -> OfframpTarget:
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="offramp bench",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--address", default="127.0.0.1:50051", help="HOST:PORT of the server")
    add_access(add)
    add(
        "--texts",
        type=Path,
        required=True,
        help="a text a line, or .jsonl; each also .gz",
    )
    add("--seconds", type=float, default=20.0, help="length of the run, or of each probe")
    add("--rate", type=float, help=f"texts a second, open loop; {RATE:g} if no load is told")
    add("--pattern", choices=list(Pattern), help="bursty is ten to one; poisson if not told")
    add("--trace", type=Path, help="file of due times in seconds instead of rate and pattern")
    add("--seed", type=int, default=0)
    add("--stream", action="store_true", help="over streams, not a call a text")
    add("--streams", type=int, default=1, help="streams at once")
    add("--in-flight", type=int, help="closed loop with so many calls under way instead")
    add("--saturate", action="store_true", help="search the highest rate that is sustained")
    add("--threshold", type=float, help="score at which a text leaves; 1 is full depth")
    add("--model", help="the served model; the server's first by default")
    add("--timeout", type=float, help=f"seconds a call may take; {TIMEOUT:g} if not told")
    add("--adapter", help="MODULE:CALLABLE that makes another server's target of the address")
    add("--json", type=Path, help="write the figures and their circumstances")
    add("--plot", type=Path, help="write latency by percentile as SVG")
    return parser
