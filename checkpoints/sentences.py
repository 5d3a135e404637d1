"""Cut long texts into sentences: unlabelled examples for `offramp train --unlabelled`.

python checkpoints/sentences.py REVIEWS.jsonl.gz SENTENCES.jsonl --count 30000
"""

import argparse
import gzip
import json
import random
import re
from pathlib import Path

BREAK = re.compile(r"(?<=[.!?])\s+")
WORDS = range(4, 26)
"""Sentences of other lengths are left out: headings, ratings, and text without full stops."""


def main() -> None:
    """Write a random sample of the sentences, without labels, one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with gzip.open(args.texts, "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"].replace("<br />", " ") for line in file]
    found = {part.strip() for text in texts for part in BREAK.split(text)}
    sentences = sorted(part for part in found if len(part.split()) in WORDS)
    sample = random.Random(args.seed).sample(sentences, args.count)
    lines = [json.dumps({"text": sentence}, ensure_ascii=False) + "\n" for sentence in sample]
    args.output.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
