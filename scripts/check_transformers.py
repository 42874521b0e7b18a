"""Loads an exported model with transformers and compares its loss with what `trainer eval` measured."""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

folder, text, evaluated = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=True).eval()
documents = [list(path.read_bytes()) for path in sorted(Path(text).iterdir())]
expected = json.loads(Path(evaluated).read_text())["domains"]["prose"]
nats, tokens = 0.0, 0
with torch.no_grad():
    for document in documents:
        ids = torch.tensor([document])
        logits = model(ids).logits[0, :-1].double()
        nats += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        tokens += ids.shape[1] - 1
ours, theirs = expected["nats_per_token"], nats / tokens
difference = abs(ours - theirs) / theirs
print(f"{model.config.model_type}: ours {ours:.6f} transformers {theirs:.6f} nats a token over {tokens} tokens "
      f"({expected['tokens']} ours), relative difference {difference:.1e}")
sys.exit(0 if difference <= 1e-4 and tokens == expected["tokens"] else 1)
