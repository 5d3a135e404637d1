"""What `offramp classify` shows of texts and what became of them, as a table or as JSON."""

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from offramp.client import Answer, OfframpError, Text

Outcome = Answer | OfframpError


def show_json(answered: Iterable[tuple[Text, Outcome]]) -> int:
    """Print one object a line, as answers come; returns the exit status, 1 if any text failed."""
    failed = False
    for text, outcome in answered:
        failed |= isinstance(outcome, OfframpError)
        print(json.dumps(_record(text, outcome)), flush=True)
    return int(failed)


def show_table(answered: Iterator[tuple[Text, Outcome]]) -> int:
    """Print a table once all are there; returns the exit status, 1 if any text failed."""
    from offramp.cli.table import answers_table, console  # noqa: PLC0415 - needs the cli extra

    rows: list[tuple[str, Outcome, None]] = []
    try:
        for text, outcome in answered:
            rows.append((text if isinstance(text, str) else " | ".join(text), outcome, None))
    finally:
        if rows:  # those before an error, too
            screen = console()
            screen.print(answers_table(rows, screen.width))
    errors = [outcome for _, outcome, _ in rows if isinstance(outcome, OfframpError)]
    for error in errors:
        assert error.index is not None  # as all of classify_many have one
        complain(f"text {error.index + 1}: {error}")
    return int(bool(errors))


def _record(text: Text, outcome: Outcome) -> dict[str, Any]:
    first, second = (text, None) if isinstance(text, str) else text
    record: dict[str, Any] = {"index": outcome.index, "text": _readable(first)}
    if second is not None:
        record["text_pair"] = _readable(second)
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
        record["probabilities"] = [round(value, 6) for value in outcome.probabilities]
    return record


def _readable(text: str) -> str:
    """A text with replacement characters for what is not UTF-8: bytes of a file, lone halves."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def complain(message: str) -> None:
    """Say what is wrong."""
    print(f"offramp classify: {message}", file=sys.stderr)
