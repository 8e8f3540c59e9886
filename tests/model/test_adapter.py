from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tiny import randomise
from uniwhisper.model.adapter import Adapter, Subsampler
from uniwhisper.model.dims import AdapterConfig
from uniwhisper.model.packing import Packed

WIDTH, DECODER_WIDTH = 8, 12


def pack(lengths: tuple[int, ...], seed: int = 0) -> Packed:
    values = torch.randn(sum(lengths), WIDTH, generator=torch.Generator().manual_seed(seed))
    return Packed(values=values, lengths=lengths)


def adapter(reduction: int, *, random: bool = True) -> Adapter:
    torch.manual_seed(0)
    made = Adapter(width=WIDTH, decoder_width=DECODER_WIDTH, config=AdapterConfig(reduction=reduction, hidden=16))
    if random:
        randomise(made, 3, scale=0.5)
    return made


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple))
def test_subsampler_starts_as_the_mean_of_pairs(lengths: tuple[int, ...]) -> None:
    frames = pack(lengths)
    with torch.no_grad():
        found = Subsampler(WIDTH)(frames)
    assert found.lengths == tuple((length + 1) // 2 for length in lengths)
    for part, pairs in zip(frames.split(), found.split(), strict=True):
        expected = [part[n : n + 2].mean(dim=0) for n in range(0, len(part), 2)]  # a lone last frame is its own mean
        torch.testing.assert_close(pairs, torch.stack(expected), atol=1e-6, rtol=0)


def test_subsampler_is_its_convolution() -> None:
    subsampler = Subsampler(WIDTH)
    randomise(subsampler, 1, scale=1.0)
    frames = pack((6, 3))
    with torch.no_grad():
        found = subsampler(frames).split()
        even, odd = (part.T[None] for part in frames.split())
        odd = torch.cat([odd, odd[..., -1:]], dim=-1)
        for pairs, whole in zip(found, (even, odd), strict=True):
            torch.testing.assert_close(pairs, subsampler.conv(whole)[0].T, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("start", ["mean", "random"])
def test_calibration_maps_the_outputs(start: str) -> None:
    subsampler = Subsampler(WIDTH)
    if start == "random":
        randomise(subsampler, 1, scale=1.0)
    generator = torch.Generator().manual_seed(4)
    mean, transform = torch.randn(WIDTH, generator=generator), torch.randn(WIDTH, WIDTH, generator=generator)
    frames = pack((5, 2))
    with torch.no_grad():
        before = subsampler(frames).values
        subsampler.calibrate(mean, transform)
        after = subsampler(frames).values
    torch.testing.assert_close(after, (before - mean) @ transform.T, atol=1e-4, rtol=1e-4)


def test_adapter_starts_as_its_linear_map() -> None:
    made, frames = adapter(1, random=False), pack((3, 2))
    with torch.no_grad():
        assert torch.equal(made(frames).values, made.skip(made.norm(frames.values)))
    made(frames).values.square().sum().backward()
    assert made.fc2.weight.grad is not None
    assert float(made.fc2.weight.grad.abs().max()) > 0  # zero at the start, and still it learns


def reference(made: Adapter, clip: Tensor, reduction: int) -> Tensor:
    """Return the adapter's outputs for one clip, group by group."""
    normed = made.norm(clip)
    outputs = []
    for start in range(0, len(clip), reduction):
        group = normed[start : start + reduction]
        group = torch.cat([group, group[-1:].expand(reduction - len(group), -1)])
        outputs.append(made.skip(group.mean(dim=0)) + made.fc2(functional.gelu(made.fc1(group.flatten()))))
    return torch.stack(outputs)


@pytest.mark.parametrize("reduction", [1, 2, 3, 4])
def test_adapter_stacks_frames_of_one_clip(reduction: int) -> None:
    made, frames = adapter(reduction), pack((5, 1, 4, 7))
    with torch.no_grad():
        found = made(frames)
        assert found.lengths == tuple(-(-length // reduction) for length in frames.lengths)
        for part, clip in zip(found.split(), frames.split(), strict=True):
            torch.testing.assert_close(part, reference(made, clip, reduction), atol=1e-5, rtol=1e-5)
            alone = made(Packed(values=clip, lengths=(len(clip),))).values
            torch.testing.assert_close(part, alone, atol=1e-5, rtol=0)
