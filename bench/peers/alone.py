"""One call in flight through our server and ONNX Runtime's bare forward, in turn.

    python bench/peers/alone.py --texts sst2/test.jsonl.gz --json bench/results/alone.json

What `compare.py` measures once a part is measured here round after round, in one run: the machine's
pace changes within minutes by more than the two differ.
"""

import argparse
import json
import statistics
from pathlib import Path

import uvloop
from environments import BUILD, ROOT, exported
from measure import bare_forward, ours
from process import Server, started, until_answering

from offramp.cli.load.circumstances import circumstances, yardstick
from offramp.cli.load.inputs import read_texts
from offramp.cli.load.report import summarize
from offramp.cli.load.run import closed_loop

WARM, SECONDS = 1.0, 3.0
SENTENCES = 300


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="A lone call and a bare forward in turn.")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "sst2-minilm")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    texts = read_texts(args.texts)
    model = exported(args.checkpoint)
    file = BUILD / "texts.json"
    file.write_text(json.dumps(texts[:SENTENCES]))
    subject = ours(args.checkpoint, None, half=False)
    log = BUILD / "server.log"

    async def alone(server: Server) -> float:
        async with subject.target(server.address) as target:
            await closed_loop(target, texts[:SENTENCES], 1, WARM)
            return summarize(await closed_loop(target, texts[:SENTENCES], 1, SECONDS)).p50

    rounds: list[dict[str, float]] = []
    before = yardstick()
    with started(subject.command, subject.told, log) as server:
        uvloop.run(until_answering(lambda: subject.target(server.address), texts[0], log))
        for _ in range(args.rounds):
            bare = bare_forward(model, file)["p50_ms"]
            rounds.append({"bare_ms": bare, "ours_ms": uvloop.run(alone(server))})
    ratios = sorted(one["ours_ms"] / one["bare_ms"] for one in rounds)
    low, middle, high = statistics.quantiles(ratios, n=4)
    record = {
        **circumstances(),
        "yardstick_gflops": [before, yardstick()],
        "over_bare": {"median": middle, "quartile_1": low, "quartile_3": high},
        "rounds": rounds,
    }
    print(json.dumps(record["over_bare"]))
    if args.json:
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
