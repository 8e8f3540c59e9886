from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from uniwhisper.cli import _training
from uniwhisper.cli._training import (
    check_attention,
    check_data_speed,
    check_devices,
    check_distributed,
    check_extras,
    check_matmul,
    check_training,
)
from uniwhisper.model import attention
from uniwhisper.train import hardware


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_training, "_MATMUL_S", 0.01)
    monkeypatch.setattr(_training, "_DATA_S", 0.01)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Pretend that torch sees one GPU; returns what it says, to be changed."""
    says: dict[str, Any] = {"name": "NVIDIA H200", "bf16": True, "rates": {torch.float32: 5e13, torch.bfloat16: 7e14}}
    properties = SimpleNamespace(name="NVIDIA H200", total_memory=150e9, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: says["name"])
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: says["bf16"])
    monkeypatch.setattr(hardware, "measured_matmul", lambda device, dtype, seconds: says["rates"][dtype])
    monkeypatch.setattr(_training, "_driver", lambda: "570.1")
    return says


def lines(findings: Any) -> list[str]:
    return [f"{finding.state} {finding.name}: {finding.text}" for finding in findings]


def test_a_gpu_is_described(gpu: dict[str, Any]) -> None:
    assert lines(check_devices())[1:] == ["ok device: cuda:0: NVIDIA H200, 150 GB, capability 9.0, driver 570.1"]


@pytest.mark.parametrize(("cuda", "advice"), [(None, "install torch's build for CUDA"), ("13.0", "too old for this")])
def test_a_gpu_that_torch_does_not_see(monkeypatch: pytest.MonkeyPatch, cuda: str | None, advice: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(_training, "_driver", lambda: "570.1")
    _, cpu, driver = lines(check_devices())
    assert cpu.startswith("ok device: cpu (")
    assert driver.startswith("note device: an NVIDIA driver (570.1) is here, and torch sees no GPU: ")
    assert advice in driver


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (SimpleNamespace(returncode=0, stdout="570.1\n570.1\n"), "570.1"),
        (SimpleNamespace(returncode=9, stdout="failed"), ""),
        (subprocess.TimeoutExpired("nvidia-smi", 10), ""),
        (PermissionError("no"), ""),
    ],
)
def test_the_driver_is_asked_for(monkeypatch: pytest.MonkeyPatch, answer: Any, expected: str) -> None:
    def run(command: list[str], **options: Any) -> Any:
        assert command[0] == "/bin/nvidia-smi"
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(_training.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(_training.subprocess, "run", run)
    assert _training._driver() == expected


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_training.shutil, "which", lambda name: None)
    assert _training._driver() == ""


def test_a_gpu_is_measured_against_its_datasheet(gpu: dict[str, Any]) -> None:
    text = "fp32 50 TFLOP/s, bf16 700 TFLOP/s (14.0x), 71% of the H200's datasheet"
    assert lines(check_matmul()) == [f"ok matmul: {text}"]
    gpu["rates"] = {torch.float32: 5e13, torch.bfloat16: 1e14}
    assert "is someone else using it" in lines(check_matmul())[0]
    gpu["name"] = "An Unknown GPU"
    assert lines(check_matmul()) == ["ok matmul: fp32 50 TFLOP/s, bf16 100 TFLOP/s (2.0x)"]


def test_a_gpu_without_bf16_units(gpu: dict[str, Any]) -> None:
    gpu["bf16"] = False
    (line,) = lines(check_matmul())
    assert line.startswith("note matmul: ")
    assert line.endswith("this GPU has no bf16 units; train with --set precision=fp32")


@pytest.mark.parametrize(("fp32", "bf16", "state"), [(2e10, 9e10, "ok"), (9e10, 2e10, "note")])
def test_a_cpu_is_measured(monkeypatch: pytest.MonkeyPatch, fp32: float, bf16: float, state: str) -> None:
    rates = {torch.float32: fp32, torch.bfloat16: bf16}
    monkeypatch.setattr(_training, "_matmul_flops", lambda device, dtype: rates[dtype])
    (line,) = lines(check_matmul())
    assert line.startswith(f"{state} matmul: fp32 {fp32 / 1e9:.0f} GFLOP/s, bf16 {bf16 / 1e9:.0f} GFLOP/s")


def test_the_rate_is_that_of_the_products() -> None:
    assert 1e8 < _training._matmul_flops(torch.device("cpu"), torch.float32) < 1e14


def test_the_attention_path_is_named(gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def in_use(device: torch.device, dtype: torch.dtype) -> str:
        assert device.type == "cuda"
        return {torch.bfloat16: kernel, torch.float32: "sdpa"}[dtype]

    monkeypatch.setattr(attention, "attention_in_use", in_use)
    kernel = "varlen"
    assert lines(check_attention()) == ["ok attention: bf16 varlen, fp32 sdpa"]
    kernel = "sdpa"
    assert lines(check_attention())[0].startswith("note attention: bf16 sdpa, fp32 sdpa: no kernel for clips of")


def test_the_attention_path_of_a_cpu() -> None:
    assert lines(check_attention()) == ["ok attention: bf16 products, fp32 sdpa"]


def test_data_speed_is_that_of_both_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_training, "_data_rates", lambda: (1000.0, 3000.0))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert lines(check_data_speed()) == ["ok data: 750 audio-s/s a core (FLAC at 16 kHz 1000, log-mel 3000), 7 cores"]


def test_data_rates_are_measured() -> None:
    assert all(10 < rate < 1e6 for rate in _training._data_rates())


def test_optional_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_training, "_EXTRAS", {"numpy": ("arrays", "x"), "no-such-package": ("nothing", "y")})
    here, missing = lines(check_extras())
    assert here.startswith("ok extras: numpy ")
    assert missing == "note extras: not needed and not here: no-such-package (nothing; pip install 'uniwhisper[y]')"


@pytest.mark.parametrize(
    ("gloo", "nccl", "gpus", "expected"),
    [
        (True, False, 0, "ok processes: torchrun with gloo"),
        (True, True, 2, "ok processes: torchrun with gloo, nccl"),
        (True, False, 2, "note processes: torchrun with gloo; several"),
        (False, False, 0, "note processes: torchrun with no backend; several"),
    ],
)
def test_backends(monkeypatch: pytest.MonkeyPatch, gloo: bool, nccl: bool, gpus: int, expected: str) -> None:
    monkeypatch.setattr(torch.distributed, "is_gloo_available", lambda: gloo)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: nccl)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    (line,) = lines(check_distributed())
    assert line.startswith(expected)


def test_torch_without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    assert lines(check_distributed())[0].startswith("note processes: torch was built without")


def test_a_check_that_breaks_costs_no_other(gpu: dict[str, Any]) -> None:
    gpu["rates"] = {}
    found = lines(check_training())
    assert "FAIL matmul: expected this check to run, found KeyError: torch.float32" in found
    assert any(line.startswith("ok processes") for line in found)


def test_without_torch_nothing_more_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (line,) = lines(check_training())
    assert line.startswith("FAIL torch: expected to import torch, found ")
