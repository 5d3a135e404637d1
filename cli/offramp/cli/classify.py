"""`offramp classify`: texts in, labels out, through a server or one started in this process."""

import argparse
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from offramp.cli.access import add_access, credentials_of, token_of
from offramp.cli.classified import Outcome, complain, show_json, show_table
from offramp.cli.texts import read_file, read_stream
from offramp.client import Client, OfframpError, Options, Text
from offramp.model.errors import ModelError


def main(arguments: Sequence[str]) -> int:
    """Classify; returns the exit status, 1 if any text failed."""
    args = _parser().parse_args(arguments)
    show = show_json if args.json else show_table
    try:
        _check_where(args)
        texts = _texts(args)
        with _client(args) as client:
            return show(_classify(client, texts, _options(args), args.timeout))
    except ModuleNotFoundError as error:
        complain(_missing(error))
    except BrokenPipeError:
        raise
    except (OfframpError, ModelError, OSError, ValueError) as error:
        complain(str(error))
    return 1


def _classify(
    client: Client, texts: Iterable[Text], options: Options, timeout: float | None
) -> Iterator[tuple[Text, Outcome]]:
    """Texts and what became of them, in their order; a window of them is held at most."""
    sent: deque[Text] = deque()
    empty = True

    def noted() -> Iterator[Text]:
        nonlocal empty
        for text in texts:
            empty = False
            sent.append(text)
            yield text

    outcomes = client.classify_many(noted(), return_errors=True, timeout=timeout, **options)
    for outcome in outcomes:
        yield sent.popleft(), outcome
    if empty:
        raise ValueError("there is no text; give one a line")


def _check_where(args: argparse.Namespace) -> None:
    """Raise ValueError where an option would have no say."""
    if args.address is not None and args.checkpoint is not None:
        raise ValueError("--checkpoint is for a model in this process; leave it or --address out")
    secured = args.tls or args.ca is not None or args.token_file is not None
    if args.address is None and secured:
        raise ValueError("--tls, --ca and --token-file are for a server; name it, --address")
    if args.all_probabilities and not args.json:
        raise ValueError("--all-probabilities are shown with --json alone; give it too")


@contextmanager
def _client(args: argparse.Namespace) -> Generator[Client]:
    if args.address is not None:
        with Client(args.address, credentials=credentials_of(args), token=token_of(args)) as client:
            yield client
        return
    from offramp.cli.shipped import local_server  # noqa: PLC0415 - needs the server extra

    with local_server(args.checkpoint) as address, Client(address) as client:
        yield client


def _options(args: argparse.Namespace) -> Options:
    options: Options = {}
    for name in ("model", "threshold", "max_accuracy_drop", "min_exit", "max_exit"):
        value = getattr(args, name)
        if value is not None:
            options[name] = value
    if args.all_probabilities:
        options["all_probabilities"] = True
    return options


def _texts(args: argparse.Namespace) -> Iterable[Text]:
    if args.texts and args.file:
        raise ValueError("give texts or --file, not both")
    if args.texts:
        return list(args.texts)
    if args.file:
        for path in args.file:
            if not path.is_fifo():  # which can be opened once
                path.open("rb").close()  # before any is read
        return chain.from_iterable(map(read_file, args.file))
    if sys.stdin is None or sys.stdin.isatty():
        raise ValueError("give texts, or --file FILE, or pipe texts in, one a line")
    return read_stream(sys.stdin)


def _missing(error: ModuleNotFoundError) -> str:
    if error.name == "rich":
        return "the table needs the package 'rich': pip install '.[cli]', or give --json"
    return (
        f"running a model in this process needs the package {error.name!r}:"
        " pip install '.[server]', or give --address"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="offramp classify", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    add("texts", nargs="*", metavar="TEXT", help="single; without any, --file or standard input")
    add(
        "--file",
        type=Path,
        metavar="FILE",
        nargs="+",
        action="extend",
        help="a text a line, blank ones left out, or .jsonl with text and text_pair; each also .gz",
    )
    add("--json", action="store_true", help="print one JSON object a line, as answers come")

    server = parser.add_argument_group("where")
    add = server.add_argument
    add("--address", help="server to ask, HOST:PORT; without it one is started in this process")
    add(
        "--checkpoint",
        type=Path,
        metavar="DIR",
        help="what to start it with (default: the shipped one)",
    )
    add_access(add)
    add("--timeout", type=float, metavar="SECONDS", help="for all texts (default: no bound)")

    how = parser.add_argument_group("how")
    add = how.add_argument
    add("--model", help="model of the server (default: its first)")
    rule = how.add_mutually_exclusive_group()
    rule.add_argument("--threshold", type=float, help="score to leave at; 1 is full depth")
    rule.add_argument(
        "--max-accuracy-drop",
        type=float,
        metavar="SHARE",
        help="accuracy to lose at most; 0.005 is half a point",
    )
    add("--min-exit", type=int, metavar="EXIT", help="first exit to leave at, from 0")
    add("--max-exit", type=int, metavar="EXIT", help="exit to leave at in any case")
    add("--all-probabilities", action="store_true", help="with --json: those of every label")
    return parser
