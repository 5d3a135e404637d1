"""`offramp classify`: texts in, labels out, through a server or one started in this process."""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from offramp.client import Answer, AsyncClient, OfframpError, Options, Text

Outcome = Answer | OfframpError
Show = Callable[[Text, Outcome], None]


def main(arguments: Sequence[str]) -> int:
    """Classify; returns the exit status, 1 if any text failed."""
    args = _parser().parse_args(arguments)
    try:
        texts = list(_texts(args))
        with asyncio.Runner() as runner:
            outcomes = runner.run(_classify(args, texts))
    except (OfframpError, OSError, ValueError) as error:
        print(f"offramp classify: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(
            f"offramp classify needs {error.name} to run a model in this process;"
            " give --address, or: pip install 'offramp[server]'",
            file=sys.stderr,
        )
        return 1
    if not args.json:
        _print_table(texts, outcomes)
    return 1 if any(isinstance(outcome, OfframpError) for outcome in outcomes) else 0


async def _classify(args: argparse.Namespace, texts: Sequence[Text]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    async with _address(args) as address, AsyncClient(address) as client:
        answers = client.classify_many(texts, return_errors=True, **_options(args))
        async for outcome in answers:
            if args.json:
                print(json.dumps(_record(texts[len(outcomes)], outcome)), flush=True)
            outcomes.append(outcome)
    return outcomes


@asynccontextmanager
async def _address(args: argparse.Namespace) -> AsyncGenerator[str]:
    if args.address:
        yield args.address
        return
    from offramp.cli.shipped import local_server  # noqa: PLC0415 - needs the server extra

    async with local_server(args.checkpoint) as address:
        yield address


def _options(args: argparse.Namespace) -> Options:
    options: Options = {}
    for name in ("model", "threshold", "max_accuracy_drop", "min_exit", "max_exit"):
        value = getattr(args, name)
        if value is not None:
            options[name] = value
    if args.all_probabilities:
        options["all_probabilities"] = True
    return options


def _texts(args: argparse.Namespace) -> Iterator[Text]:
    if args.texts:
        yield from args.texts
    elif args.file:
        with args.file.open(encoding="utf-8") as file:
            yield from _lines(file, json_lines=args.file.suffix == ".jsonl")
    elif sys.stdin.isatty():
        raise ValueError("give texts, or --file FILE, or pipe texts in, one a line")
    else:
        yield from _lines(sys.stdin, json_lines=False)


def _lines(lines: Iterable[str], *, json_lines: bool) -> Iterator[Text]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if not json_lines:
            yield line.rstrip("\n")
            continue
        try:
            record = json.loads(line)
            text, pair = record["text"], record.get("text_pair")
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"line {number} is no JSON object with a text: {error!r}") from error
        yield text if pair is None else (text, pair)


def _record(text: Text, outcome: Outcome) -> dict[str, Any]:
    first, second = (text, None) if isinstance(text, str) else text
    record: dict[str, Any] = {"text": first}
    if second is not None:
        record["text_pair"] = second
    if isinstance(outcome, OfframpError):
        return record | {"error": str(outcome), "code": outcome.code.name}
    record |= {
        "label": outcome.label,
        "confidence": round(outcome.confidence, 6),
        "exit": outcome.exit,
        "exits": outcome.exits,
        "layer": outcome.layer,
        "layers": outcome.layers,
        "reason": outcome.reason.value,
        "threshold": outcome.threshold,
        "tokens": outcome.tokens,
        "truncated": outcome.truncated,
        "ms": round(outcome.timing.total * 1e3, 3),
        "model": outcome.model,
    }
    if outcome.probabilities:
        record["probabilities"] = list(outcome.probabilities)
    return record


def _print_table(texts: Sequence[Text], outcomes: Sequence[Outcome]) -> None:
    from offramp.cli.table import answers_table, console  # noqa: PLC0415 - needs the cli extra

    rows = zip((t if isinstance(t, str) else " | ".join(t) for t in texts), outcomes, strict=True)
    console().print(answers_table((text, outcome, None) for text, outcome in rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="offramp classify", description=__doc__)
    add = parser.add_argument
    add("texts", nargs="*", metavar="TEXT", help="texts; without any, --file or standard input")
    add("--address", help="server to ask, HOST:PORT; without it one is started in this process")
    add("--checkpoint", type=Path, help="what to start it with (default: the shipped one)")
    add("--file", type=Path, help="one text a line, or .jsonl with text and text_pair")
    add("--json", action="store_true", help="print one JSON object a line")
    add("--model", help="model of the server (default: its first)")
    rule = parser.add_mutually_exclusive_group()
    rule.add_argument("--threshold", type=float, help="confidence to leave at; 1 is full depth")
    rule.add_argument(
        "--max-accuracy-drop", type=float, help="accuracy to lose at most; 0.005 is half a point"
    )
    add("--min-exit", type=int, help="first exit to leave at, from 0")
    add("--max-exit", type=int, help="exit to leave at in any case")
    add("--all-probabilities", action="store_true", help="the probability of every label")
    return parser
