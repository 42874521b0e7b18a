"""Trains the network of the preset `bench-olmoe` in PyTorch and prints one JSON line with its median step time.

The same sizes, data shape and optimiser as `trainer pretrain bench-olmoe`: d 256, 4 layers, 4 heads, sequence 256, batch 8,
vocabulary 4096, 32 experts top-4 of width 128, f32, AdamW, clipping at 1. Run it through scripts/compare-pytorch, which makes the
virtual environment and alternates the two programs.
"""

import json
import statistics
import sys
import time

import torch
from transformers import OlmoeConfig, OlmoeForCausalLM

steps, threads = int(sys.argv[1]), int(sys.argv[2])
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
model = OlmoeForCausalLM(config).float().train()
optimiser = torch.optim.AdamW(model.parameters(), lr=4e-4, betas=(0.9, 0.95), weight_decay=0.1)
times = []
for step in range(steps):
    ids = torch.randint(0, 4096, (8, 256))
    start = time.perf_counter()
    optimiser.zero_grad(set_to_none=True)
    model(input_ids=ids, labels=ids).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    times.append(time.perf_counter() - start)
median = statistics.median(times[2:])
print(json.dumps({"program": "pytorch", "torch": torch.__version__, "step_s": median, "tokens_per_s": 8 * 256 / median}))
