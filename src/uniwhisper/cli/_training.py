"""What `uniwhisper doctor` looks at for training: devices, precision, kernels, data speed, packages, processes.

Reads the machine and measures it for about two seconds in all; writes nothing. `check_training` makes every check and
never raises: one that breaks is a finding, and costs no other.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from typing import TYPE_CHECKING

from uniwhisper.cli._findings import Finding, fail, first_line, note, ok

if TYPE_CHECKING:
    import torch

__all__ = [
    "check_attention",
    "check_data_speed",
    "check_devices",
    "check_distributed",
    "check_extras",
    "check_matmul",
    "check_training",
]

_MATMUL_WIDTH = 1024
_MATMUL_S = 0.5
_DATA_S = 0.5
_CLIP_S = 10
_N_MELS = 128
_DRIVER_S = 10.0
_LOW_SHARE = 0.5
_EXTRAS = {
    "bitsandbytes": ("8-bit AdamW", "optim8"),
    "torchao": ("8-bit AdamW, bf16 weights", "optim8"),
    "flash-attn": ("attention on GPUs where torch has no varlen kernel", ""),
    "wandb": ("curves on Weights & Biases", "wandb"),
}
"""Package -> what it is for, and the extra that installs it; flash-attn builds against the installed torch."""


def check_devices() -> Iterator[Finding]:
    """Look at torch and the devices that it can use."""
    try:
        import torch
    except Exception as e:  # a broken binary package can raise anything
        yield fail("torch", f"expected to import torch, found {first_line(e)}; install uniwhisper again")
        return
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPU"
    yield ok("torch", f"{torch.__version__} ({built}), {torch.get_num_threads()} threads")
    driver = _driver()
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(number)
            yield ok(
                "device",
                f"cuda:{number}: {properties.name}, {properties.total_memory / 1e9:.0f} GB, "
                f"capability {properties.major}.{properties.minor}, driver {driver or 'unknown'}",
            )
        return
    yield ok("device", f"cpu ({torch.backends.cpu.get_cpu_capability()}); no GPU is needed")
    if driver:
        yield note(
            "device",
            f"an NVIDIA driver ({driver}) is here, and torch sees no GPU: "
            + ("is the driver too old for this torch?" if torch.version.cuda else "install torch's build for CUDA"),
        )


def _driver() -> str:
    """Return the version of the NVIDIA driver, or an empty string."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_DRIVER_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""


def check_matmul() -> Iterator[Finding]:
    """Measure matrix products in both precisions, on the device that training would take."""
    import torch

    from uniwhisper.train.hardware import find_gpu

    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    fp32, bf16 = (_matmul_flops(device, dtype) for dtype in (torch.float32, torch.bfloat16))
    unit, scale = ("TFLOP/s", 1e12) if gpu else ("GFLOP/s", 1e9)
    text = f"fp32 {fp32 / scale:.0f} {unit}, bf16 {bf16 / scale:.0f} {unit} ({bf16 / fp32:.1f}x)"
    known = find_gpu(torch.cuda.get_device_name()) if gpu else None
    if known is not None:
        text += f", {bf16 / known.bf16_flops:.0%} of the {known.name}'s datasheet"
    if gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        yield note("matmul", f"{text}: this GPU has no bf16 units; train with --set precision=fp32")
    elif bf16 <= fp32:
        yield note("matmul", f"{text}: bf16 is no gain here; train with --set precision=fp32")
    elif known is not None and bf16 < _LOW_SHARE * known.bf16_flops:
        yield note("matmul", f"{text}: is someone else using it, or is its power limited?")
    else:
        yield ok("matmul", text)


def _matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the measured speed of matrix products, in FLOP/s; on a CPU small ones, or a slow one takes too long."""
    import torch

    from uniwhisper.train.hardware import measured_matmul

    if device.type == "cuda":
        return measured_matmul(device, dtype, seconds=_MATMUL_S)
    a = torch.randn(_MATMUL_WIDTH, _MATMUL_WIDTH).to(dtype)
    torch.mm(a, a)
    count, began = 0, time.perf_counter()
    while (seconds := time.perf_counter() - began) < _MATMUL_S:
        torch.mm(a, a)
        count += 1
    return 2 * _MATMUL_WIDTH**3 * count / seconds


def check_attention() -> Iterator[Finding]:
    """Say which attention kernel training would use."""
    import torch

    from uniwhisper.model.attention import PACKED_KERNELS, attention_in_use

    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    kernels = {name: attention_in_use(device, getattr(torch, name)) for name in ("bfloat16", "float32")}
    text = f"bf16 {kernels['bfloat16']}, fp32 {kernels['float32']}"
    if gpu and kernels["bfloat16"] not in PACKED_KERNELS:
        yield note("attention", f"{text}: no kernel for clips of different lengths; torch 2.11 and flash-attn have one")
    else:
        yield ok("attention", text)


def check_data_speed() -> Iterator[Finding]:
    """Measure how fast one core decodes FLAC and computes log-mels."""
    from uniwhisper.threads import num_threads, one_thread_each

    with one_thread_each():
        decode, mel = _data_rates()
    both = 1 / (1 / decode + 1 / mel)
    yield ok(
        "data",
        f"{both:.0f} audio-s/s a core (FLAC at 16 kHz {decode:.0f}, log-mel {mel:.0f}), {num_threads()} cores",
    )


def _data_rates() -> tuple[float, float]:
    """Return seconds of audio that one core decodes, and makes log-mels of, in a second."""
    import numpy as np
    import soundfile
    import torch

    from uniwhisper import audio
    from uniwhisper.mel import log_mel

    times = np.arange(_CLIP_S * audio.SAMPLE_RATE) / audio.SAMPLE_RATE
    wave = 0.3 * np.sin(2 * np.pi * 440 * times) + 0.02 * np.random.default_rng(0).standard_normal(len(times))
    stream = BytesIO()
    soundfile.write(stream, wave, audio.SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    content, samples = stream.getvalue(), torch.from_numpy(wave.astype(np.float32))
    return (
        _CLIP_S * _per_s(lambda: audio.read(content, name="a synthesised clip")),
        _CLIP_S * _per_s(lambda: log_mel(samples, _N_MELS)),
    )


def _per_s(work: Callable[[], object]) -> float:
    """Return how often a second the work can be done; the first time, which prepares it, does not count."""
    work()
    count, began = 0, time.perf_counter()
    while not count or time.perf_counter() - began < _DATA_S / 2:
        work()
        count += 1
    return count / (time.perf_counter() - began)


def check_extras() -> Iterator[Finding]:
    """Say which optional packages of training are here."""
    here, missing = [], []
    for name, (purpose, extra) in _EXTRAS.items():
        try:
            here.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            how = f"pip install 'uniwhisper[{extra}]'" if extra else f"pip install {name} --no-build-isolation"
            missing.append(f"{name} ({purpose}; {how})")
    if here:
        yield ok("extras", ", ".join(here))
    if missing:
        yield note("extras", f"not needed and not here: {', '.join(missing)}")


def check_distributed() -> Iterator[Finding]:
    """Say how several processes could talk to each other."""
    import torch
    from torch import distributed

    if not distributed.is_available():
        yield note("processes", "torch was built without torch.distributed: training takes one process")
        return
    backends = {"gloo": distributed.is_gloo_available(), "nccl": distributed.is_nccl_available()}
    here = [name for name, available in backends.items() if available]
    text = f"torchrun with {', '.join(here) or 'no backend'}"
    if not backends["gloo"] or (torch.cuda.device_count() > 1 and not backends["nccl"]):
        yield note("processes", f"{text}; several processes need gloo, and nccl where there are several GPUs")
    else:
        yield ok("processes", text)


_MEASURED: dict[str, Callable[[], Iterator[Finding]]] = {
    "matmul": check_matmul,
    "attention": check_attention,
    "data": check_data_speed,
    "extras": check_extras,
    "processes": check_distributed,
}


def check_training() -> Iterator[Finding]:
    """Make all the checks here; without a working torch, none beyond the first."""
    devices = list(check_devices())
    yield from devices
    if any(finding.state == "FAIL" for finding in devices):
        return
    for name, check in _MEASURED.items():
        try:
            yield from check()
        except Exception as e:  # a GPU that is full or broken, a driver that does not fit: of many kinds
            yield fail(name, f"expected this check to run, found {type(e).__name__}: {first_line(e)}")
