"""What the benchmarks run on: hardware, versions, and the speed that its own matrix product reaches."""

import datetime
import os
import pathlib
import platform
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np


def matmul_peak() -> float:
    """FLOP/s of a large square matrix product, float32 on CPU, else bfloat16: JAX's, or PyTorch's where that is faster."""
    size, dtype = (2048, jnp.float32) if jax.default_backend() == "cpu" else (8192, jnp.bfloat16)
    matrix = jnp.asarray(np.random.default_rng(0).standard_normal((size, size), np.float32), dtype)
    product = jax.jit(lambda m: m @ m)
    product(matrix).block_until_ready()
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        product(matrix).block_until_ready()
        seconds.append(time.perf_counter() - started)
    theirs = sys.modules["torch_peer"].matmul_peak(size) if "torch_peer" in sys.modules else 0
    return max(2 * size**3 / min(seconds), theirs)


def machine() -> dict:
    """Hardware and versions."""
    cpu = platform.processor() or platform.machine()
    if (info := pathlib.Path("/proc/cpuinfo")).is_file():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")), cpu)
    found = dict(date=f"{datetime.date.today()}", cpu=cpu, cores=os.cpu_count(), python=platform.python_version())
    found |= dict(jax=jax.__version__, device=f"{len(jax.devices())} x {jax.devices()[0].device_kind}")
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        found |= dict(torch=torch.__version__, torch_cuda=torch.cuda.is_available())
    return found | (dict(load=round(os.getloadavg()[0], 1)) if hasattr(os, "getloadavg") else {})


def log(text: str):
    print(text, file=sys.stderr, flush=True)
