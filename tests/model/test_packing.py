from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from uniwhisper.model.packing import Packed, group_positions, segment_attention, segment_means

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple)


def naive_attention(query: Tensor, key: Tensor, value: Tensor, *, causal: bool, scale: float) -> Tensor:
    """Return softmax attention of one sequence, one head and one row at a time; `key` may have fewer heads."""
    share = query.shape[0] // key.shape[0]
    output = torch.zeros_like(query)
    for head in range(query.shape[0]):
        for row in range(query.shape[1]):
            stop = row + 1 if causal else query.shape[1]
            scores = (key[head // share, :stop] @ query[head, row]) * scale
            output[head, row] = scores.softmax(dim=0) @ value[head // share, :stop]
    return output


@settings(max_examples=25, deadline=None)
@given(lengths=LENGTHS, causal=st.booleans(), share=st.sampled_from([1, 2, 4]), scale=st.sampled_from([None, 0.7]))
def test_segment_attention_is_naive_attention_of_each_sequence(
    lengths: tuple[int, ...], causal: bool, share: int, scale: float | None
) -> None:
    generator = torch.Generator().manual_seed(sum(lengths))
    query = torch.randn(4, sum(lengths), 8, generator=generator)
    key, value = torch.randn(2, 4 // share, sum(lengths), 8, generator=generator).unbind(0)
    found = segment_attention(query, key, value, lengths, causal=causal, scale=scale)
    parts = zip(*(tensor.split(list(lengths), dim=1) for tensor in (query, key, value)), strict=True)
    expected = torch.cat([naive_attention(*part, causal=causal, scale=scale or 8**-0.5) for part in parts], dim=1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=100, deadline=None)
@given(lengths=LENGTHS, size=st.integers(1, 5))
def test_group_positions_cover_every_sequence_in_order(lengths: tuple[int, ...], size: int) -> None:
    rows, groups = group_positions(lengths, size)
    assert rows.shape == (sum(groups), size)
    assert groups == tuple((length + size - 1) // size for length in lengths)
    start = 0
    for length, part in zip(lengths, rows.split(list(groups)), strict=True):
        flat = part.flatten().tolist()
        assert flat[:length] == list(range(start, start + length))
        assert flat[length:] == [start + length - 1] * (len(flat) - length)  # only its own last row is repeated
        start += length


def test_segment_means_and_split_keep_sequences_apart() -> None:
    packed = Packed(values=torch.tensor([[1.0], [3.0], [10.0]]).bfloat16(), lengths=(2, 1))
    assert [part.flatten().tolist() for part in packed.split()] == [[1.0, 3.0], [10.0]]
    means = segment_means(packed)
    assert means.dtype == torch.float32
    assert means.flatten().tolist() == [2.0, 10.0]
