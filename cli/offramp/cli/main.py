"""The `offramp` command: one verb, one module, imported only when it is asked for."""

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from types import FrameType

from offramp.cli.outputs import no_more_output

VERBS = {
    "train": "fine-tune an encoder and its exits on labelled text",
    "calibrate": "fit temperatures and the trade-off table of a checkpoint",
    "evaluate": "measure a checkpoint on labelled text, threshold by threshold",
    "serve": "serve checkpoints over gRPC",
    "simulate": "the scheduler in virtual time: latency against load, replicas for a target",
    "bench": "put load on a server and measure its answers",
    "classify": "classify texts, through a server or in this process",
    "watch": "the figures of a running server, live",
    "health": "ask whether a server serves, for probes",
}
EXTRAS = {
    "train": "train",
    "calibrate": "train",
    "evaluate": "train",
    "bench": "bench",
    "health": "cli",
    "watch": "cli",
}
"""What installs the packages that a verb needs, where that is not all of a server."""

SPINS = "10000"
"""How long an idle OpenMP thread of a server waits awake, in libgomp's count: some 0.2 ms, over the
gaps within a step. By default it holds a core for milliseconds, which callers here wait for."""

INTERRUPTED = 130
"""What a shell expects of a command that Ctrl-C ended."""


Action = Callable[[int, FrameType | None], object] | signal.Handlers


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    listing = "\n".join(f"  {verb:<10} {purpose}" for verb, purpose in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="offramp",
        description="Text classification whose easy inputs leave the encoder early.",
        epilog=f"verbs:\n{listing}\n\n`offramp VERB --help` tells the options of one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"offramp {version('offramp')}")
    parser.add_argument("verb", choices=VERBS, metavar="VERB")
    given = list(sys.argv[1:] if arguments is None else arguments)
    verb = parser.parse_args(given[:1]).verb
    _open_standard_streams()
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # else it tells of each failed handshake
    if verb == "serve" and "OMP_WAIT_POLICY" not in os.environ:  # both are read when torch loads
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    try:
        with _signals_of_a_server() if verb == "serve" else nullcontext():
            status: int = importlib.import_module(f"offramp.cli.{verb}").main(given[1:])
        print(end="", flush=True)  # which is nothing where there is no standard output
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        no_more_output()
        return 1
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("offramp"):
            raise
        extra = EXTRAS.get(verb, "server")
        print(
            f"offramp {verb} needs the package {error.name!r}: pip install '.[{extra}]'",
            file=sys.stderr,
        )
        return 1
    except OSError as error:  # nowhere to write to, or no room there
        print(f"offramp {verb}: {error}", file=sys.stderr)
        return 1
    return status


@contextmanager
def _signals_of_a_server() -> Generator[None]:
    """What signals do before a server listens to them, process 1 of a container or not."""

    def leave(number: int, _: FrameType | None) -> None:
        os._exit(128 + number)  # what is imported may swallow an exception, as torch does numpy's

    actions: dict[signal.Signals, Action] = {
        signal.SIGHUP: signal.SIG_IGN,  # nothing is read that might have changed
        signal.SIGINT: leave,
        signal.SIGTERM: leave,
    }
    if threading.current_thread() is not threading.main_thread():
        actions = {}  # signals are for the first thread
    before = {number: signal.signal(number, action) for number, action in actions.items()}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def _open_standard_streams() -> None:
    """Let nothing else that is opened take the numbers of streams that a shell has closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003


if __name__ == "__main__":
    sys.exit(main())
