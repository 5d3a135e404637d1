"""The options of `offramp serve`, and what they tell the server."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from offramp.model.precision import Precision
from offramp.server.config import GPU_LIMITS, GPU_PRECISION, Limits, ServerConfig
from offramp.server.telemetry.logs import LogFormat

DEFAULT_ADDRESS = "127.0.0.1:50051"


def config_of(args: argparse.Namespace) -> ServerConfig:
    """What these options tell the server; raises ValueError on what is impossible."""
    settings = _fields(args, ServerConfig)
    settings["checkpoints"] = tuple(args.checkpoint)
    limits = _fields(args, Limits)
    if settings.get("device", "").startswith("cuda"):
        limits = {**GPU_LIMITS, **limits}
        settings.setdefault("precision", GPU_PRECISION)
    try:
        settings["limits"] = Limits(**limits)
        return ServerConfig(**settings)
    except ValueError as error:
        names = [field.name for field in (*fields(ServerConfig), *fields(Limits))]
        raise ValueError(_by_options(str(error), names)) from error


def _by_options(told: str, names: Sequence[str]) -> str:
    """What is told of fields, with the options that they are."""
    known = "|".join(name for name in names if "_" in name)
    first = rf"^(?:{'|'.join(names)})(?= must)"
    pattern = rf"\b(?:{known})\b|{first}"
    return re.sub(pattern, lambda found: "--" + found[0].replace("_", "-"), told)


def _fields(args: argparse.Namespace, kind: type[ServerConfig | Limits]) -> dict[str, Any]:
    """What was given for the fields of a configuration; options are called as its fields."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in vars(args).items() if name in names}


def parser() -> argparse.ArgumentParser:
    """The options of `offramp serve`."""
    made = argparse.ArgumentParser(
        prog="offramp serve",
        description="Checkpoints behind a gRPC port, until SIGTERM.",
        epilog="Metrics, traces and logs go where the OTEL_* environment variables say, for one"
        " OTEL_METRICS_EXPORTER=prometheus; see docs/telemetry.md.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    defaults = {field.name: field.default for field in (*fields(ServerConfig), *fields(Limits))}

    def option(name: str, kind: type, meta: str, text: str) -> None:
        field = name.removeprefix("--").replace("-", "_")
        default, on_gpu = defaults.get(field), GPU_LIMITS.get(field)
        gpu = "" if on_gpu is None else f", on a GPU {on_gpu}"
        told = "" if default is None else f" (default: {default}{gpu})"
        group.add_argument(name, type=kind, metavar=meta, help=text + told)

    group = made.add_argument_group("what")
    group.add_argument(
        "--checkpoint",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="checkpoint to serve under its directory's name; repeat for more, first is default",
    )
    option("--device", str, "DEVICE", "torch device, such as cpu or cuda")
    option(
        "--workers", int, "N", "steps at the same time; 0: one a core, at most four, on a GPU one"
    )
    option("--threads", int, "N", "threads of one step; 0: the cores shared out among workers")
    option(
        "--processes",
        int,
        "N",
        "servers behind the one address, each with models of its own, which share cores and device",
    )
    group.add_argument(
        "--precision",
        type=Precision,
        choices=list(Precision),
        help="of the large matrix products (default: float32, on a GPU float16); see"
        " docs/performance.md",
    )

    group = made.add_argument_group("where")
    group.add_argument(
        "--address",
        default=DEFAULT_ADDRESS,
        metavar="HOST:PORT",
        help=f"where to listen; port 0 picks a free one (default: {DEFAULT_ADDRESS})",
    )
    option("--certificate", Path, "FILE", "speak TLS with this certificate chain (PEM)")
    option("--private-key", Path, "FILE", "and this key (PEM)")
    option("--token-file", Path, "FILE", "serve only calls with a token of this file, one a line")
    option("--max-connection-age", float, "SECONDS", "ask clients to reconnect; 0: never")

    group = made.add_argument_group("how much")
    option("--slots", int, "N", "requests between stages at most")
    option("--max-batch-rows", int, "N", "requests in one step at most")
    option("--max-batch-tokens", int, "N", "tokens in one step at most")
    option("--max-queue-requests", int, "N", "requests that may wait; more are refused")
    option("--overload-accuracy-drop", float, "X", "under overload, lose up to this much accuracy")
    option("--overload-delay", float, "SECONDS", "a predicted delay above this is overload")
    group.add_argument(
        "--skip-costly-exits",
        action="store_true",
        help="do not read an exit that costs more than it is expected to save; an answer's exit"
        " then depends on whom it is batched with",
    )
    option("--steps-in-flight", int, "N", "1, or 2 to cut the next full batch while one runs")
    option("--max-inputs", int, "N", "texts in one unary call at most")
    option("--max-message-bytes", int, "N", "bytes of one message at most")
    option("--stream-window", int, "N", "unanswered texts of one stream at most")

    group = made.add_argument_group("how it ends")
    option("--drain-pause", float, "SECONDS", "after SIGTERM, time for balancers to look away")
    option("--drain-grace", float, "SECONDS", "and then time to finish what is held")

    group = made.add_argument_group("live accuracy")
    option("--shadow-share", float, "SHARE", "of the answers, run on to full depth when idle")
    option("--shadow-window", int, "N", "so many of them tell the agreement")
    group.add_argument(
        "--guard",
        action="store_true",
        help="raise the threshold while answers agree less often than the checkpoint promises",
    )

    group = made.add_argument_group("what it tells")
    group.add_argument("--log-format", choices=list(map(str, LogFormat)), default="text")
    group.add_argument(
        "--log-texts",
        action="store_true",
        default=False,
        help="let failures tell the texts they are of",
    )
    return made
