"""Names of GPUs as torch gives them, and what is measured where no datasheet helps."""

from __future__ import annotations

import pytest
import torch

from uniwhisper.train import hardware
from uniwhisper.train.hardware import GPUS, find_gpu, gpu, measured_matmul, peak_flops


@pytest.mark.parametrize(
    ("device_name", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A100-PCIE-40GB", "A100"),
        ("NVIDIA A800-SXM4-80GB", "A800"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H800", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H200 NVL", "H200 NVL"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 3090", "RTX 3090"),
    ],
)
def test_names_of_torch(device_name: str, name: str) -> None:
    found = find_gpu(device_name)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    "device_name",
    [
        "NVIDIA GH200 480GB",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA L40",
        "Tesla T4",
    ],
)
def test_others_are_not_guessed(device_name: str) -> None:
    assert find_gpu(device_name) is None


def test_names_are_unique() -> None:
    assert len({known.name for known in GPUS}) == len(GPUS)
    assert gpu("A800").bf16_flops == 312e12
    assert gpu("H200").bf16_flops == gpu("H100").bf16_flops == 989e12


def test_a_cpu_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.dtype] = []
    monkeypatch.setattr(hardware, "measured_matmul", lambda device, dtype: calls.append(dtype) or 5e9)
    hardware._measured_once.cache_clear()
    assert peak_flops("cpu", torch.float32) == peak_flops(torch.device("cpu"), torch.float32) == 5e9
    assert calls == [torch.float32]
    hardware._measured_once.cache_clear()


def test_a_known_gpu_is_looked_up_and_an_unknown_one_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["NVIDIA A800-SXM4-80GB", "NVIDIA A800-SXM4-80GB", "Something New"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: next(names))
    monkeypatch.setattr(hardware, "_measured_once", lambda device, dtype, threads: 7.0)
    assert peak_flops("cuda") == 312e12
    assert peak_flops("cuda", torch.float32) == 7.0
    assert peak_flops("cuda") == 7.0


def test_the_measured_rate_is_one_that_a_product_reaches() -> None:
    rate = measured_matmul("cpu", torch.float32, seconds=0.05)
    assert 1e8 < rate < 1e14
