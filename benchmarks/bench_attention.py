"""Attention by matrix products against torch's flash kernel on a CPU, forward and backward, at the lengths of clips.

This is what `uniwhisper.model.attention.attend` decides between. Errors are those of bf16 results against float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from timing import hardware, interleave, table, write_result
from uniwhisper.allocator import keep_freed_memory
from uniwhisper.model.attention import attend

WIDTH = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """One attention call."""

    name: str
    clips: int
    heads: int
    kv_heads: int
    length: int
    causal: bool


SHAPES = (
    Shape(name="SmolLM2, 12 x 75 positions", clips=12, heads=9, kv_heads=3, length=75, causal=True),
    Shape(name="SmolLM2, 2 x 240 positions", clips=2, heads=9, kv_heads=3, length=240, causal=True),
    Shape(name="Whisper base, 1 s", clips=1, heads=8, kv_heads=8, length=50, causal=False),
    Shape(name="Whisper base, 3 s", clips=1, heads=8, kv_heads=8, length=150, causal=False),
    Shape(name="Whisper base, 10 s", clips=1, heads=8, kv_heads=8, length=500, causal=False),
    Shape(name="Whisper base, 30 s", clips=1, heads=8, kv_heads=8, length=1500, causal=False),
)

Inputs = tuple[list[Tensor], Tensor]
Attention = Callable[..., Tensor]


def flash(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
    """Return torch's own attention."""
    grouped = query.shape[1] != key.shape[1]
    return functional.scaled_dot_product_attention(query, key, value, is_causal=causal, enable_gqa=grouped)


def make_inputs(shape: Shape, dtype: torch.dtype) -> Inputs:
    """Return query, key and value as projections leave them, and a gradient of the output."""
    generator = torch.Generator().manual_seed(0)

    def rows(heads: int) -> Tensor:
        values = torch.randn(shape.clips, shape.length, heads, WIDTH, generator=generator)
        return values.to(torch.bfloat16).to(dtype).transpose(1, 2)

    inputs = [rows(heads).requires_grad_() for heads in (shape.heads, shape.kv_heads, shape.kv_heads)]
    return inputs, rows(shape.heads)


def both_ways(run: Attention, inputs: Inputs, *, causal: bool) -> Sequence[Tensor]:
    """Return the output and the three gradients."""
    output = run(*inputs[0], causal=causal)
    return output.detach(), *torch.autograd.grad(output, inputs[0], inputs[1])


def errors(run: Attention, shape: Shape) -> float:
    """Return the largest relative error of output and gradients in bf16 against float32."""
    exact = both_ways(flash, make_inputs(shape, torch.float32), causal=shape.causal)
    found = both_ways(run, make_inputs(shape, torch.bfloat16), causal=shape.causal)
    return max(float((a.float() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=9, help="passes; the median counts")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/attention_*.md")
    options = parser.parse_args()
    keep_freed_memory()
    rows = []
    for shape in SHAPES:
        inputs = make_inputs(shape, torch.bfloat16)
        sides: dict[str, Callable[[Inputs], object]] = {
            name: lambda case, run=run, causal=shape.causal: both_ways(run, case, causal=causal)
            for name, run in (("ours", attend), ("flash", flash))
        }
        timings = interleave(sides, [inputs], repeats=options.repeats)
        ours, theirs = timings["ours"].median_s, timings["flash"].median_s
        gaps = (errors(attend, shape), errors(flash, shape))
        if gaps[0] > 3 * gaps[1]:
            raise SystemExit(f"{shape.name}: error {gaps[0]:.1e} against float32, torch's kernel {gaps[1]:.1e}")
        rows.append([shape.name, f"{1e3 * ours:.2f}", f"{1e3 * theirs:.2f}", f"{theirs / ours:.2f}"])
        rows[-1] += [f"{gap:.1e}" for gap in gaps]
    header = ["bf16, forward and backward", "ours ms", "flash ms", "ratio", "error ours", "error flash"]
    text = f"{hardware()}\n\n{table(header, rows)}"
    print(text)
    if options.write:
        print(write_result("attention", text))


if __name__ == "__main__":
    main()
