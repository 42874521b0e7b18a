"""PyTorch on the GPU, on the shapes of the benches (tests/common/shapes.rs). One JSON line a case; `cargo xtask gpu` reads them.

Dense products go to cuBLAS, attention to PyTorch's flash attention, grouped products to its grouped kernel where it has one.
"""
import json

import torch
import torch.nn.functional as F


def seconds(run):
    """Best of five samples, each of enough calls for 20 ms, timed by events."""
    run()
    torch.cuda.synchronize()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    calls = 1
    best = float("inf")
    for sample in range(6):
        begin.record()
        for _ in range(calls):
            run()
        end.record()
        torch.cuda.synchronize()
        each = begin.elapsed_time(end) * 1e-3 / calls
        calls = max(1, int(0.02 / each))
        if sample > 0:
            best = min(best, each)
    return best


def report(storage, case, run):
    print(json.dumps({"storage": storage, "case": case, "seconds": seconds(run)}), flush=True)


def main():
    # f32 products in full precision: what our three tf32 products are compared with.
    torch.backends.cuda.matmul.allow_tf32 = False
    for storage, dtype in [("bf16", torch.bfloat16), ("f32", torch.float32)]:
        new = lambda *shape: torch.randn(*shape, device="cuda", dtype=dtype)
        for rows, inputs, outputs in [(512, 512, 512), (2048, 256, 256), (2048, 256, 4096)]:
            x, w, dy = new(rows, inputs), new(outputs, inputs), new(rows, outputs)
            case = f"{rows}x{outputs}x{inputs}"
            report(storage, f"linear_forward/{case}", lambda: x @ w.T)
            report(storage, f"linear_dgrad/{case}", lambda: dy @ w)
            report(storage, f"linear_wgrad/{case}", lambda: dy.T @ x)
        q, k, v = (new(8, 4, 256, 64) for _ in range(3))
        report(storage, "attention_forward/8x256, 4 heads of 64",
               lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
        for rows, width in [(2048, 256), (8192, 2048)]:
            x, w = new(rows, width), new(width)
            report(storage, f"rms_norm_forward/{rows}x{width}", lambda: F.rms_norm(x, (width,), w, 1e-5))
        if dtype is torch.bfloat16 and hasattr(torch, "_grouped_mm"):
            for tokens, top_k, experts, width, hidden in [(4096, 8, 64, 512, 256), (2048, 4, 32, 256, 128)]:
                rows = tokens * top_k
                x, w = new(tokens, width), new(experts, width, 2 * hidden)
                token = torch.arange(rows, device="cuda") % tokens
                offsets = torch.arange(1, experts + 1, device="cuda", dtype=torch.int32) * (rows // experts)
                case = f"{tokens} tokens, d {width}, h {hidden}, {experts} experts top-{top_k}, balanced"
                report(storage, f"grouped_gemm_forward/{case}", lambda: torch._grouped_mm(x[token], w, offs=offsets))


main()
