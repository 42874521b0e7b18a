"""Trains the network of the preset `bench-olmoe` in PyTorch and prints one JSON line with its median step time.

The same sizes, data shape and optimiser as `trainer pretrain bench-olmoe`: d 256, 4 layers, 4 heads, sequence 256, batch 8,
vocabulary 4096, 32 experts top-4 of width 128, AdamW, clipping at 1. In f32; with products in bf16 by autocast and parameters
in f32; or with everything in bf16, moments of the optimiser included, which is less exact than ours (f32 masters and moments).
Run it through scripts/compare-pytorch, which makes the virtual environment and alternates the programs.
"""

import json
import statistics
import sys
import time

import torch
from transformers import OlmoeConfig, OlmoeForCausalLM

steps, threads = int(sys.argv[1]), int(sys.argv[2])
way = sys.argv[3] if len(sys.argv) > 3 else "f32"
if way not in ("f32", "bf16-autocast", "bf16-weights"):
    sys.exit(f"unknown way to compute: {way}; there are f32, bf16-autocast and bf16-weights")
torch.set_num_threads(threads)
torch.manual_seed(0)
config = OlmoeConfig(
    vocab_size=4096,
    hidden_size=256,
    intermediate_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=4,
    num_experts=32,
    num_experts_per_tok=4,
    max_position_embeddings=256,
    output_router_logits=True,
    use_cache=False,
)
model = OlmoeForCausalLM(config).to(torch.bfloat16 if way == "bf16-weights" else torch.float32).train()
optimiser = torch.optim.AdamW(model.parameters(), lr=4e-4, betas=(0.9, 0.95), weight_decay=0.1)
times = []
for step in range(steps):
    ids = torch.randint(0, 4096, (8, 256))
    start = time.perf_counter()
    optimiser.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "bf16-autocast"):
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    times.append(time.perf_counter() - start)
median = statistics.median(times[2:])
print(json.dumps({"program": "pytorch", "way": way, "torch": torch.__version__, "step_s": median, "tokens_per_s": 8 * 256 / median}))
