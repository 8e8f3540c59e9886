from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from uniwhisper.errors import ConfigError
from uniwhisper.train import eight_bit
from uniwhisper.train.eight_bit import block_size, torchao_adamw
from uniwhisper.train.optim import init_optimizer_state, optimizer_tensors

from .regression import built, train, weights_of

PAPER_LR = 2e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "weights"), [("adamw8bit", "fp32"), ("adamw8bit_ao", "fp32"), ("adamw8bit_ao", "bf16")]
)
def test_moments_in_8_bits_learn_as_those_in_float32(kind: str, weights: str) -> None:
    reference, run = built("adamw"), built(kind, weights=weights)
    expected = train(reference.model, reference.optimizer, reference.config, 0, 40)
    losses = train(run.model, run.optimizer, run.config, 0, 40)
    assert sum(expected[-4:]) < 0.5 * sum(expected[:4])
    tolerance = 0.005 if weights == "fp32" else 0.02
    for first in range(0, 40, 4):  # the mean over the four batches of the task
        assert sum(losses[first : first + 4]) == pytest.approx(sum(expected[first : first + 4]), rel=tolerance)


@pytest.mark.parametrize(
    ("kind", "codes", "scales"),
    [("adamw", 8.0, 0.0), ("adamw8bit", 2.0, 2 * 4 / 256), ("adamw8bit_ao", 2.0, 2 * 4 / 64)],
)
def test_bytes_of_state_for_an_element_of_a_matrix(kind: str, codes: float, scales: float) -> None:
    run = built(kind)
    weight = run.model.audio.encoder.layers[0].fc1.weight  # rows of 64: torchao's blocks are of 64 here
    tensors = optimizer_tensors(run.optimizer, run.model)
    of_weight = {n: t for n, t in tensors.items() if n.startswith("audio.encoder.layers.0.fc1.weight.")}
    tables = sum(t.nbytes for n, t in of_weight.items() if "qmap" in n or n.endswith("step"))
    assert sum(t.nbytes for t in of_weight.values()) - tables == (codes + scales) * weight.numel()
    # 1,024 bytes a table; bitsandbytes has one pair of tables for all parameters, torchao a pair for each
    assert tables <= 2 * 1024 + 8


def test_the_paper_s_encoder_needs_a_quarter_of_the_memory() -> None:
    # Shapes of Whisper large-v3's encoder layer (d = 1280): every matrix is kept in 8 bits, in blocks of 256.
    shapes = {(1280, 1280): 4, (5120, 1280): 1, (1280, 5120): 1, (1280,): 8, (5120,): 1}
    total, eight = 0, 0.0
    for shape, count in shapes.items():
        parameter = torch.empty(shape, device="meta")
        size = block_size(parameter)
        assert size == (256 if len(shape) == 2 else 0)
        total += count * 8 * parameter.numel()
        eight += count * parameter.numel() * (2 * (1 + 4 / size) if size else 8)
    assert eight / total == pytest.approx(0.255, abs=0.001)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((64, 64), 64),  # 4,096 elements: the smallest
        ((63, 64), 0),
        ((384, 384), 128),
        ((512, 512), 256),
        ((512, 80, 3), 0),  # rows of 240
        ((1280, 128, 3), 128),
        ((1280, 1280, 3), 256),
        ((8192,), 0),
    ],
)
def test_blocks_never_cross_a_row(shape: tuple[int, ...], expected: int) -> None:
    assert block_size(torch.empty(shape, device="meta")) == expected


def walked(make: Callable[[nn.Parameter], torch.optim.Optimizer], weight: torch.Tensor, steps: int) -> torch.Tensor:
    """Return where a matrix is after steps of `PAPER_LR` along one gradient that changes only in size."""
    parameter = nn.Parameter(weight.clone())
    optimizer = make(parameter)
    generator = torch.Generator().manual_seed(3)
    direction = torch.randn(weight.shape, generator=generator)
    for _ in range(steps):
        parameter.grad = (direction * (1 + 0.1 * torch.rand((), generator=generator))).to(weight.dtype)
        optimizer.step()
    return parameter.detach().float()


def plain(parameter: nn.Parameter) -> torch.optim.Optimizer:
    return torch.optim.AdamW([parameter], lr=PAPER_LR, betas=(0.9, 0.98), weight_decay=0.01, fused=True)


def random_rounding(parameter: nn.Parameter) -> torch.optim.Optimizer:
    group = {"params": [parameter], "lr": PAPER_LR, "weight_decay": 0.01}
    return torchao_adamw([group], (0.9, 0.98), random_rounding=True)


def test_pure_bf16_loses_its_updates_at_the_paper_s_rate() -> None:
    """From 2**-7 on a weight is at least 2**-14 from its neighbours in bfloat16: a step of 2e-5 is rounded away."""
    steps = 50
    start = (0.02 * torch.randn(128, 256, generator=torch.Generator().manual_seed(1))).bfloat16()
    moved = walked(plain, start.float(), steps) - start.float()
    lost = walked(plain, start, steps) - start.float()
    kept = walked(random_rounding, start, steps) - start.float()

    distance = float(moved.norm())
    assert distance == pytest.approx(steps * PAPER_LR * start.numel() ** 0.5, rel=0.02)  # a step of Adam is its rate
    assert float((moved != 0).float().mean()) == 1.0

    assert float((lost != 0).float().mean()) < 0.4  # most weights never move at all
    large = start.float().abs() > 0.008
    assert float(large.float().mean()) > 0.65  # of matrices of Whisper's usual spread
    assert float((lost[large] != 0).float().mean()) == 0.0
    assert float((lost * moved).sum()) / distance**2 < 0.35  # a third of the way, all of it by small weights

    assert float((kept != 0).float().mean()) > 0.95
    assert float((kept * moved).sum()) / distance**2 == pytest.approx(1.0, abs=0.03)
    assert float((kept[large] * moved[large]).sum() / moved[large].square().sum()) == pytest.approx(1.0, abs=0.03)


def test_random_rounding_is_a_function_of_the_step() -> None:
    ends = []
    for seed in (0, 1):
        run = built("adamw8bit_ao", weights="bf16")
        torch.manual_seed(seed)  # what else the process draws changes nothing
        train(run.model, run.optimizer, run.config, 0, 3)
        ends.append(weights_of(run.model))
        state = torch.random.get_rng_state()
        torch.manual_seed(seed)
        assert torch.equal(torch.random.get_rng_state(), state)  # and the optimiser draws nothing from it
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_random_rounding_draws_anew_at_every_step() -> None:
    start = torch.full((64, 64), 0.02).bfloat16()
    parameter = nn.Parameter(start.clone())
    optimizer = random_rounding(parameter)
    ups = []
    for _ in range(2):
        with torch.no_grad():
            parameter.copy_(start)
        parameter.grad = torch.ones_like(start)
        optimizer.step()
        ups.append(parameter.detach() != start)
    assert 0.05 < float(ups[0].float().mean()) < 0.5
    assert not torch.equal(ups[0], ups[1])


def test_small_moments_stay_float32_whatever_the_weights_are() -> None:
    parameter = nn.Parameter(torch.zeros(8, 8, dtype=torch.bfloat16))
    optimizer = random_rounding(parameter)
    init_optimizer_state(optimizer)
    assert optimizer.state[parameter]["exp_avg_sq"].dtype == torch.float32


@pytest.mark.parametrize("kind", ["adamw8bit", "adamw8bit_ao"])
def test_a_missing_package_is_named_with_the_line_that_installs_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bitsandbytes", "bitsandbytes.optim", "torchao", "torchao.optim"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"{kind} needs .*pip install 'uniwhisper\[optim8\]'"):
        built(kind)


@pytest.mark.slow
def test_packages_are_loaded_when_asked_for_and_in_silence() -> None:
    """In a process of its own, because a package is loaded once."""
    code = (
        "import logging, sys, warnings; warnings.simplefilter('error')\n"
        "import torch, uniwhisper.train.optim\n"
        "from uniwhisper.train import eight_bit\n"
        "assert not {'torchao', 'bitsandbytes', 'torch.distributed.tensor'} & set(sys.modules)\n"
        "group = {'params': [torch.nn.Parameter(torch.zeros(2))]}\n"
        "eight_bit.torchao_adamw([dict(group)], (0.9, 0.98), random_rounding=False)\n"
        "eight_bit.bitsandbytes_adamw([dict(group)], (0.9, 0.98))\n"
        "assert logging.getLogger('torchao').level == logging.NOTSET\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_levels_of_loggers_come_back_after_an_error() -> None:
    before = logging.getLogger("torchao").level
    with pytest.raises(ConfigError):
        eight_bit._load("uniwhisper.no_such_module", "adamw8bit", "nothing")
    assert logging.getLogger("torchao").level == before
