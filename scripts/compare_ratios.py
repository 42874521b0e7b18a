"""Reads the lines of scripts/compare-pytorch and prints ours : PyTorch for every round, storage and way."""

import json
import sys

ours, theirs = {}, {}
for line in sys.stdin:
    head, _, record = line.partition("{")
    words, rate = head.split(), json.loads("{" + record)["tokens_per_s"]
    if "ours" in words:
        ours[words[1], words[3]] = rate
    else:
        theirs[words[1], json.loads("{" + record)["way"]] = rate
ratios = {}
for (number, way), rate in theirs.items():
    storage = way.split("-")[0]
    if (number, storage) in ours:
        ratios.setdefault(way, []).append(ours[number, storage] / rate)
for way, found in ratios.items():
    print(f"ours : PyTorch {way}: " + ", ".join(f"{ratio:.2f}" for ratio in found))
