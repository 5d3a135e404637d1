"""All servers on the same texts and weights, by the same generator; writes figures and the page.

    python bench/peers/compare.py --texts sst2/test.jsonl.gz --json bench/results/peers.json

Each peer gets an environment of its own under build/peers when it is first needed, and its
settings are tried in a closed loop; the best goes on. Then every server's latency with one call
in flight, CPU time and saturation, ours at its default threshold, at full depth and in bfloat16
among them, each with the bare ONNX Runtime forward beside it; then ours, at its default and at
full depth, in turn with every peer that came within 15 % of the best, as often as `--rounds` says;
then the tails of these, in turn, at 80 % of the best peer's saturation. What cannot be installed
or started is said, not hidden. Done parts are in the file and are not done again, so that
`--minutes` can spread a comparison over several calls; `--again` forgets a server's parts.

Texts of several files are mixed in equal parts; with labelled `--dev` files ours is called at the
lowest threshold that loses at most half a point of accuracy on each. `--padded` lets peers choose
among batches above one alone, and `--max-tokens` gives all servers another token limit than the
checkpoint's.
"""

import argparse
import time
from pathlib import Path

from catalog import PEERS
from comparison import Comparison
from environments import ROOT, environment, limited
from table import write_page


def main() -> None:
    """Measure, write, and set the tables into the page."""
    args = parser().parse_args()
    if args.install_only:
        for name in args.peers:
            environment(name.lower().replace(" ", "-"), PEERS[name].packages)
        return
    if args.max_tokens:
        args.checkpoint = limited(args.checkpoint, args.max_tokens)
    run = Comparison(args)
    for name in args.again:
        run.forget(name)
    ends = time.monotonic() + args.minutes * 60
    while part := next(run.parts(), None):
        if time.monotonic() > ends:
            print(f"to be continued with: {part[0]}")
            return
        started = time.monotonic()
        part[1]()
        run.save()
        print(f"{part[0]}: done in {time.monotonic() - started:.0f} s", flush=True)
    write_page()


def parser() -> argparse.ArgumentParser:
    """What may be asked."""
    parser = argparse.ArgumentParser(
        description="Measure all servers in turn and write the tables.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--texts", type=Path, nargs="+", required=True, help="several are mixed")
    add("--json", type=Path, required=True, help="the figures; parts in it are not done again")
    add("--checkpoint", type=Path, default=ROOT / "checkpoints" / "sst2-minilm")
    add("--max-tokens", type=int, default=0, help="token limit; 0 is the checkpoint's")
    add("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    add("--dev", type=Path, nargs="*", default=[], help="choose our threshold on texts of these")
    add("--padded", action="store_true", help="peers choose among batches above one")
    add("--seconds", type=float, default=20.0, help="a probe's length; half of it at first")
    add("--steps", type=int, default=5, help="probes of a saturation")
    add("--rounds", type=int, default=2, help="saturations of the best peers and ours, in turn")
    add("--tails", type=int, default=3, help="tails of these, in turn")
    add("--minutes", type=float, default=1e6, help="begin no part after so many")
    add("--again", nargs="*", default=[], help="servers to be measured anew")
    add("--tune-only", action="store_true", help="settings alone")
    add("--install-only", action="store_true")
    return parser


if __name__ == "__main__":
    main()
