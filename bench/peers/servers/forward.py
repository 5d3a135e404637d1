"""The model that every peer serves: tokenizer and ONNX Runtime at full depth, padded batches.

As a program it is the yardstick, ONNX Runtime with no server around it: the median milliseconds
of one tokenized sentence after the other, and texts a second in padded batches.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class FullDepth:
    """Labels of texts, of the model in a directory (see `Settings.model`)."""

    def __init__(self, directory: Path, threads: int, *, spins: bool = True) -> None:
        model = json.loads((directory / "config.json").read_text())["model"]
        self._labels: list[str] = model["labels"]
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(model["max_tokens"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
        self._session = onnxruntime.InferenceSession(
            directory / "model.onnx", options, providers=["CPUExecutionProvider"]
        )

    def tokenize(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """A batch padded to its longest text."""
        rows = [self._tokenizer.encode(text).ids for text in texts]
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask = np.zeros(ids.shape, np.int32)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = row
            mask[at, : len(row)] = 1
        return {"ids": ids, "mask": mask}

    def logits(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        """Logits of the last exit: `[rows, labels]`."""
        logits: np.ndarray = self._session.run(None, batch)[0]
        return logits

    def labels(self, texts: Sequence[str]) -> list[str]:
        """The label of each text."""
        return self.named(self.logits(self.tokenize(texts)))

    def named(self, logits: np.ndarray) -> list[str]:
        """The best label of each row."""
        return [self._labels[at] for at in logits.argmax(1)]


def main() -> None:
    """Time the bare forward."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("texts", type=Path, help="a JSON list")
    parser.add_argument("--batches", type=int, nargs="*", default=[])
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument(
        "--cpu-time", action="store_true", help="count CPU seconds, for machines that others use"
    )
    args = parser.parse_args()
    clock = time.process_time if args.cpu_time else time.perf_counter
    texts = json.loads(args.texts.read_text())
    model = FullDepth(args.model, args.threads)
    rows = [model.tokenize([text]) for text in texts]
    for row in rows[:30]:
        model.logits(row)
    times: list[float] = []
    for row in rows:
        started = clock()
        model.logits(row)
        times.append((clock() - started) * 1e3)
    found = {"p50_ms": statistics.median(times), "mean_ms": statistics.fmean(times)}
    for size in args.batches:
        started = clock()
        for at in range(0, len(texts), size):
            model.labels(texts[at : at + size])
        found[f"texts_per_second_{size}"] = len(texts) / (clock() - started)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
