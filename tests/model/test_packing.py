from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from uniwhisper.model.packing import (
    Packed,
    Segments,
    _segment_means,
    group_positions,
    place_rows,
    positions_within,
    segment_attention,
    segment_means,
    take_rows,
)

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple)


def naive_attention(query: Tensor, key: Tensor, value: Tensor, *, causal: bool, scale: float) -> Tensor:
    """Return softmax attention of one sequence, one row and one head at a time; `key` may have fewer heads."""
    share = query.shape[1] // key.shape[1]
    output = torch.zeros_like(query)
    for row in range(query.shape[0]):
        for head in range(query.shape[1]):
            stop = row + 1 if causal else query.shape[0]
            scores = (key[:stop, head // share] @ query[row, head]) * scale
            output[row, head] = scores.softmax(dim=0) @ value[:stop, head // share]
    return output


def heads(lengths: tuple[int, ...], share: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries of four heads, keys and values for a pack."""
    generator = torch.Generator().manual_seed(sum(lengths))
    query = torch.randn(sum(lengths), 4, 8, generator=generator)
    key, value = torch.randn(2, sum(lengths), 4 // share, 8, generator=generator).unbind(0)
    return query, key, value


def expected_attention(inputs: tuple[Tensor, ...], lengths: tuple[int, ...], *, causal: bool, scale: float) -> Tensor:
    parts = zip(*(tensor.split(list(lengths)) for tensor in inputs), strict=True)
    return torch.cat([naive_attention(*part, causal=causal, scale=scale) for part in parts])


CPU = torch.device("cpu")


@settings(max_examples=25, deadline=None)
@given(
    lengths=LENGTHS,
    causal=st.booleans(),
    share=st.sampled_from([1, 2, 4]),
    scale=st.sampled_from([None, 0.7]),
    kernel=st.sampled_from(["auto", "products", "sdpa", "eager"]),
)
def test_segment_attention_is_naive_attention_of_each_sequence(
    lengths: tuple[int, ...], causal: bool, share: int, scale: float | None, kernel: str
) -> None:
    inputs = heads(lengths, share)
    segments = Segments.packed(lengths, device=CPU, kernel=kernel)
    found = segment_attention(*inputs, segments, causal=causal, scale=scale)
    expected = expected_attention(inputs, lengths, causal=causal, scale=scale or 8**-0.5)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    lengths=LENGTHS,
    room=st.integers(0, 3),
    causal=st.booleans(),
    share=st.sampled_from([1, 2]),
    kernel=st.sampled_from(["auto", "products", "sdpa", "eager"]),
)
def test_padding_is_attended_by_no_row(
    lengths: tuple[int, ...], room: int, causal: bool, share: int, kernel: str
) -> None:
    size = max(lengths) + room
    rows = torch.cat([n * size + torch.arange(length) for n, length in enumerate(lengths)])
    inputs = heads(lengths, share)
    padded = [torch.full((size * len(lengths), *x.shape[1:]), 50.0).index_copy(0, rows, x) for x in inputs]
    segments = Segments.padded(lengths, size, device=CPU, kernel=kernel)
    found = segment_attention(padded[0], padded[1], padded[2], segments, causal=causal)
    assert bool(found.isfinite().all())  # rows of padding too, or their gradient would be none
    expected = expected_attention(inputs, lengths, causal=causal, scale=8**-0.5)
    torch.testing.assert_close(found[rows], expected, atol=1e-5, rtol=1e-5)


@given(lengths=LENGTHS)
def test_positions_restart_with_every_sequence(lengths: tuple[int, ...]) -> None:
    assert positions_within(lengths).tolist() == [n for length in lengths for n in range(length)]


def test_rows_are_placed_and_taken_with_their_gradients() -> None:
    x = torch.arange(6.0).view(3, 2).requires_grad_()
    rows = torch.tensor([4, 0, 3])
    placed = place_rows(x, rows, 5)
    assert placed[rows].equal(x)
    assert placed[[1, 2]].count_nonzero() == 0
    assert take_rows(placed, rows).equal(x)
    exact = x.detach().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: place_rows(x, rows, 5), exact)
    assert torch.autograd.gradcheck(lambda x: take_rows(x, torch.tensor([2, 0])), exact)


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
    torch.testing.assert_close(_segment_means(packed), means, atol=0, rtol=0)  # what a GPU computes
