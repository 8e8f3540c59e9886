"""The adapter against its formula, written out for one row."""

from __future__ import annotations

import torch
from torch.nn import functional

from uniwhisper.evaluate.asr.adapter import SwigluAdapter
from uniwhisper.model.packing import Packed


def test_is_the_gated_formula_row_by_row() -> None:
    torch.manual_seed(0)
    adapter = SwigluAdapter(6, hidden=9, decoder_width=4)
    frames = torch.randn(7, 6)
    found = adapter(Packed(values=frames, lengths=(4, 3)))
    row = frames[5]
    gate = adapter.fc1.weight @ row + adapter.fc1.bias
    value = adapter.fc2.weight @ row + adapter.fc2.bias
    expected = adapter.proj.weight @ (gate * torch.sigmoid(gate) * value) + adapter.proj.bias
    torch.testing.assert_close(found.values[5], expected)
    assert found.lengths == (4, 3)


def test_reduction_stacks_frames_of_one_clip() -> None:
    torch.manual_seed(0)
    adapter = SwigluAdapter(3, hidden=5, decoder_width=4, reduction=2)
    frames = torch.randn(5, 3)
    both = adapter(Packed(values=frames, lengths=(3, 2)))
    assert both.lengths == (2, 1)
    alone = adapter(Packed(values=frames[3:], lengths=(2,)))
    torch.testing.assert_close(both.values[2:], alone.values)
    stacked = adapter.stack(Packed(values=frames, lengths=(3, 2))).values
    torch.testing.assert_close(stacked[0], frames[:2].flatten())
    torch.testing.assert_close(stacked[1], torch.cat([frames[2], frames[2]]))  # a lone last frame stands twice


def test_standardises_and_leaves_a_constant_feature_finite() -> None:
    adapter = SwigluAdapter(2, hidden=3, decoder_width=2)
    frames = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    adapter.standardise(frames.mean(dim=0), frames.std(dim=0, correction=0))
    values = adapter.stack(Packed(values=frames, lengths=(2,))).values
    torch.testing.assert_close(values, torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    assert functional.silu(values).isfinite().all()
