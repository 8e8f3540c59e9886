"""The grid of frames, the batches, and the checks around a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from uniwhisper.encoders._windowed import Grid, Window, WindowedEncoder, pad_stack
from uniwhisper.errors import EncoderError

grids = st.builds(
    lambda stride, more, frames, minimum, extra: Grid(
        stride=stride,
        receptive=stride + more,
        frames=frames,
        minimum=min(minimum, stride + more),
        window=(frames - 1) * stride + stride + more + extra if extra else 0,
    ),
    stride=st.integers(1, 9),
    more=st.integers(-1, 12).filter(lambda n: n >= 0),
    frames=st.integers(1, 7),
    minimum=st.integers(1, 20),
    extra=st.integers(0, 5),
)


@given(grid=grids, num_samples=st.integers(1, 300))
def test_windows_hold_every_frame_once_and_its_samples(grid: Grid, num_samples: int) -> None:
    wave = np.arange(1, num_samples + 1, dtype=np.float32)
    windows = grid.cut(wave)
    assert sum(count for _, count in windows) == grid.num_frames(num_samples)
    number = 0
    for part, count in windows:
        assert 1 <= count <= grid.frames
        for local in range(count):
            seen = part[local * grid.stride : local * grid.stride + grid.receptive]
            there = wave[number * grid.stride : number * grid.stride + grid.receptive]
            np.testing.assert_array_equal(seen[: len(there)], there)
            assert len(windows) > 1 or len(part) >= grid.minimum
            number += 1


def test_a_clip_has_as_many_frames_as_the_convolutions_give() -> None:
    grid = Grid(stride=320, receptive=400, frames=1500, minimum=400)
    assert [grid.num_frames(n) for n in (1, 400, 719, 720, 16_000, 480_080)] == [1, 1, 1, 2, 49, 1500]
    assert [count for _, count in grid.cut(np.zeros(480_080 + 320, np.float32))] == [1500, 1]


class _Doubling:
    """One frame a sample, twice its value; remembers its batches."""

    equal_lengths = False

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def windows(self, wave: np.ndarray) -> list[Window]:
        parts = [wave[i : i + 10] for i in range(0, len(wave), 10)]
        return [Window(values=torch.from_numpy(p), num_frames=len(p), duration_s=len(p)) for p in parts]

    def run(self, values: Sequence[Tensor]) -> list[Tensor]:
        self.batches.append([len(v) for v in values])
        return [torch.stack([v, 2 * v], dim=1) for v in values]


def _encoder(network: Any, dim: int = 2) -> WindowedEncoder:
    return WindowedEncoder(
        network, name="x", fingerprint="f", sample_rate=1, dim=dim, hop_ms=1000.0, model=None, device="cpu",
        precision="fp32",
    )  # fmt: skip


def test_results_come_in_the_order_of_the_clips() -> None:
    network = _Doubling()
    clips = [np.arange(n, dtype=np.float32) for n in (3, 35, 1, 12)]
    for clip, frames in zip(clips, _encoder(network).frames(clips), strict=True):
        np.testing.assert_array_equal(frames, np.stack([clip, 2 * clip], axis=1))
    assert network.batches == [[10, 10, 10, 10, 5, 3], [2, 1]]  # longest first, 60 seconds with padding at most


def test_unequal_lengths_are_kept_apart_where_padding_would_matter() -> None:
    network = _Doubling()
    network.equal_lengths = True
    _encoder(network).frames([np.zeros(n, np.float32) for n in (3, 5, 3, 25)])
    assert all(len(set(batch)) == 1 for batch in network.batches)
    assert sorted(len(batch) for batch in network.batches) == [2, 2, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda out: out[:-1], "at least 4 frames of 2 numbers"),
        (lambda out: out[:, :1], "at least 4 frames of 2 numbers"),
        (lambda out: out * float("nan"), "frames of input 0 are not finite"),
    ],
)
def test_a_network_that_breaks_its_promise_is_an_error(change: Any, message: str) -> None:
    network = _Doubling()
    network.run = lambda values: [change(torch.stack([v, v], dim=1)) for v in values]  # type: ignore[method-assign]
    with pytest.raises(EncoderError, match=message):
        _encoder(network).frames([np.ones(4, np.float32)])


def test_frames_of_padding_are_cut_off() -> None:
    network = _Doubling()
    network.run = lambda values: [torch.ones(50, 2) for _ in values]  # type: ignore[method-assign]
    assert _encoder(network).frames([np.ones(4, np.float32)])[0].shape == (4, 2)


def test_pad_stack_marks_what_is_real() -> None:
    stacked, mask = pad_stack([torch.ones(2, 3), torch.ones(1, 3)])
    assert stacked.shape == (2, 2, 3)
    assert mask is not None
    assert mask.tolist() == [[True, True], [True, False]]
    assert stacked[1, 1].tolist() == [0, 0, 0]
    assert pad_stack([torch.ones(2, 3), torch.ones(2, 3)])[1] is None
