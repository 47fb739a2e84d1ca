"""Times torch's bf16 linear: one JSON request a line on stdin, one JSON answer a line on stdout."""

import json
import statistics
import sys
import time

import torch


def measure(m: int, n: int, k: int, threads: int, seconds: float) -> float:
    """Median milliseconds of y = a w^T; a [m, k], w [n, k], all bf16."""
    torch.set_num_threads(threads)
    a = torch.rand(m, k).sub_(0.5).to(torch.bfloat16)
    w = torch.rand(n, k).sub_(0.5).to(torch.bfloat16)
    times = []
    torch.nn.functional.linear(a, w)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        torch.nn.functional.linear(a, w)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


with torch.inference_mode():
    print(json.dumps({"version": torch.__version__, "onednn": torch.backends.mkldnn.is_available()}), flush=True)
    for line in sys.stdin:
        print(json.dumps({"ms": measure(**json.loads(line))}), flush=True)
