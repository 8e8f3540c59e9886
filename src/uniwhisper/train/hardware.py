"""How fast a device multiplies matrices: datasheets of known GPUs, and a measurement for everything else.

Reads the device's name; writes nothing. A rate is the denominator of every share of the peak (MFU) that a run reports,
and of every estimate of its hours.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.nn import functional

__all__ = ["GPUS", "Gpu", "find_gpu", "gpu", "measured_matmul", "peak_flops"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """What the vendor states about a GPU."""

    name: str
    pattern: str
    """Regular expression that finds it in `torch.cuda.get_device_name()`, case ignored."""
    bf16_flops: float
    """Dense bfloat16 matrix products with float32 sums, in FLOP/s; half of what is stated with sparsity."""
    memory_gb: float
    """Memory in 10^9 bytes, of the largest version."""


GPUS = (
    Gpu(name="B200", pattern=r"\bB200\b", bf16_flops=2250e12, memory_gb=180),
    Gpu(name="H200 NVL", pattern=r"\bH200\b.*NVL", bf16_flops=835e12, memory_gb=141),
    Gpu(name="H200", pattern=r"\bH200\b", bf16_flops=989e12, memory_gb=141),
    Gpu(name="H100 NVL", pattern=r"\bH100\b.*NVL", bf16_flops=835e12, memory_gb=94),
    Gpu(name="H100 PCIe", pattern=r"\bH[18]00\b.*PCIe", bf16_flops=756e12, memory_gb=80),
    Gpu(name="H100", pattern=r"\bH[18]00\b", bf16_flops=989e12, memory_gb=80),
    Gpu(name="A800", pattern=r"\bA800\b", bf16_flops=312e12, memory_gb=80),
    Gpu(name="A100", pattern=r"\bA100\b", bf16_flops=312e12, memory_gb=80),
    Gpu(name="A30", pattern=r"\bA30\b", bf16_flops=165e12, memory_gb=24),
    Gpu(name="L40S", pattern=r"\bL40S\b", bf16_flops=362e12, memory_gb=48),
    Gpu(name="L4", pattern=r"\bL4\b", bf16_flops=121e12, memory_gb=24),
    Gpu(name="RTX 4090", pattern=r"\bRTX 4090\b(?!.*(Laptop| D\b))", bf16_flops=165.2e12, memory_gb=24),
    Gpu(name="RTX 3090", pattern=r"\bRTX 3090\b(?! Ti)", bf16_flops=71e12, memory_gb=24),
)
"""Known GPUs, the first whose pattern fits counts; an unknown one is measured.

Source: NVIDIA's data sheets, whose tables give bfloat16 with sparsity where a star says so, twice what counts here:
https://www.nvidia.com/en-us/data-center/dgx-b200/ (36 PFLOPS sparse for 8), /data-center/h200/ (SXM 1,979 and NVL
1,671 sparse), /data-center/h100/ (SXM 1,979, NVL 1,671, PCIe 1,513 sparse; H800 multiplies as fast as H100 and differs
in links), /data-center/a100/ (312; A800 is an A100 with slower links), /data-center/products/a30-gpu/ (165),
/data-center/l40s/ (362), /data-center/l4/ (242 sparse); GeForce cards with float32 sums: the architecture whitepapers
of Ada, appendix A (165.2), and of GA102, table 2 (71).
"""


def find_gpu(device_name: str) -> Gpu | None:
    """Return the known GPU that `torch.cuda.get_device_name()` names, or None."""
    return next((known for known in GPUS if re.search(known.pattern, device_name, re.IGNORECASE)), None)


def gpu(name: str) -> Gpu:
    """Return the GPU listed under `name` in `GPUS`.

    Raises:
        KeyError: There is none; a mistake of the caller, who names one of the list.
    """
    return {known.name: known for known in GPUS}[name]


def measured_matmul(device: torch.device | str, dtype: torch.dtype, *, seconds: float = 0.5) -> float:
    """Return the device's best rate over two shapes of matrix product, in FLOP/s.

    One shape is square and large, the other that of a small LM's feed-forward layer; the best of a few calls counts,
    so that the rate is a ceiling and not an average.

    Args:
        device: Where to compute.
        dtype: Of both factors.
        seconds: Time to spend, give or take a few calls.
    """
    device = torch.device(device)
    large = 2048 if device.type == "cpu" else 8192
    best = 0.0
    for rows, inner, columns in ((large, large, large), (1200, 576, 3072)):
        a = torch.randn(rows, inner, device=device).to(dtype)
        b = torch.randn(columns, inner, device=device).to(dtype)
        until = time.perf_counter() + seconds / 2
        for attempt in range(1000):
            _wait(device)
            began = time.perf_counter()
            functional.linear(a, b)
            _wait(device)
            ended = time.perf_counter()
            if attempt:  # the first call prepares the kernel
                best = max(best, 2.0 * rows * inner * columns / (ended - began))
            if ended > until and attempt > 2:
                break
    return best


def _wait(device: torch.device) -> None:
    """Wait until a GPU has done what it was asked for; a CPU has when the call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_flops(device: torch.device | str, dtype: torch.dtype = torch.bfloat16) -> float:
    """Return the rate that counts as 100 % on `device`, in FLOP/s.

    That of the datasheet for bfloat16 on a known GPU, and a measured one otherwise (half a second, once a process).
    """
    device = torch.device(device)
    known = find_gpu(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    if known is not None and dtype == torch.bfloat16:
        return known.bf16_flops
    return _measured_once(str(device), dtype, torch.get_num_threads())


@lru_cache(maxsize=16)
def _measured_once(device: str, dtype: torch.dtype, threads: int) -> float:
    return measured_matmul(device, dtype)
