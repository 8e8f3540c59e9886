"""Our encoder on true lengths against Hugging Face's `WhisperEncoder` on 30 s windows: inference, same real clips.

Checks first that the compatibility mode equals Hugging Face's encoder and that a clip's frames do not depend on its
batch, and stops if not. Then times both in float32 and under bf16 autocast, log-mels ready, sides taking turns batch
by batch. The stock encoder attends to padding, so its frames differ from true-length ones; with padding masked out of
its keys both must agree, and the script stops if not.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from clips import read_clips, read_waves
from timing import hardware, interleave, table, write_result
from uniwhisper import audio
from uniwhisper.allocator import keep_freed_memory
from uniwhisper.mel import log_mel_padded, log_mel_tails
from uniwhisper.model.encoder import AudioEncoder, load_encoder
from uniwhisper.weights import resolve

TOLERANCE = 1e-4
"""Compatibility mode against Hugging Face, float32."""
LEAKAGE = 1e-9
"""Between clips of a batch, float64: float32 rounding, which depends on matrix shapes, would hide a small leak."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One batch of clips in both forms."""

    mels: list[Tensor]
    tails: list[Tensor]
    padded: Tensor
    audio_s: float


def make_cases(waves: Sequence[Tensor], *, n_mels: int, batch_s: float) -> list[Case]:
    """Return the clips in batches of about `batch_s` seconds of audio, as `uniwhisper embed` makes them."""
    groups: list[list[Tensor]] = [[]]
    for wave in waves:
        if groups[-1] and sum(map(len, groups[-1])) >= batch_s * audio.SAMPLE_RATE:
            groups.append([])
        groups[-1].append(wave)
    cases = []
    for group in groups:
        mels, tails = zip(*log_mel_tails(group, n_mels), strict=True)
        cases.append(
            Case(
                mels=list(mels),
                tails=list(tails),
                padded=torch.stack([log_mel_padded(wave, n_mels) for wave in group]),
                audio_s=sum(map(len, group)) / audio.SAMPLE_RATE,
            )
        )
    return cases


def masked(encoder: nn.Module, case: Case) -> list[Tensor]:
    """Return the valid frames of Hugging Face's layers with padding masked out of the keys."""
    x = functional.gelu(encoder.conv1(case.padded))  # type: ignore[operator]
    x = functional.gelu(encoder.conv2(x)).transpose(1, 2) + encoder.embed_positions.weight  # type: ignore[operator]
    frames = [-(-mel.shape[1] // 2) for mel in case.mels]
    mask = (torch.arange(x.shape[1]) < torch.tensor(frames)[:, None])[:, None, None]
    for layer in encoder.layers:  # type: ignore[union-attr]
        x = layer(x, attention_mask=mask)
    x = encoder.layer_norm(x)  # type: ignore[operator]
    return [row[:n] for row, n in zip(x, frames, strict=True)]


def check_equal(ours: AudioEncoder, theirs: nn.Module, case: Case) -> list[str]:
    """Return the float32 differences.

    Raises:
        SystemExit: The compatibility mode differs from Hugging Face's encoder, or frames depend on the batch.
    """
    few = case.padded[:2]
    compat = float((ours.forward_padded(few) - theirs(few).last_hidden_state).abs().max())
    batch = ours(case.mels, case.tails).split()
    alone = [ours([mel], [value]).values for mel, value in zip(case.mels, case.tails, strict=True)]
    solo = max(float((a - b).abs().max()) for a, b in zip(alone, batch, strict=True))
    exact = _relative(batch, masked(theirs, case))
    leak = leakage(ours, case)
    if compat > TOLERANCE or leak > LEAKAGE or max(exact) > TOLERANCE:
        raise SystemExit(
            f"encoders differ: compatibility mode by {compat:.1e}, alone and in a batch by {leak:.1e} in float64, "
            f"masked by {max(exact):.1e}"
        )
    return [
        f"compatibility mode against Hugging Face's encoder, 30 s windows: largest difference {compat:.1e}",
        f"a clip alone and in a batch: largest difference {solo:.1e} in float32, {leak:.1e} in float64",
        f"true length against Hugging Face's layers on the padded window, padding masked: a clip's frames differ by "
        f"{sorted(exact)[len(exact) // 2]:.1e} (median of {len(exact)} clips), {max(exact):.1e} at most",
    ]


def leakage(ours: AudioEncoder, case: Case) -> float:
    """Return the largest difference between a clip alone and in its batch, computed in float64."""
    exact = copy.deepcopy(ours).double()
    mels, tails = [mel.double() for mel in case.mels], [tail.double() for tail in case.tails]
    batch = exact(mels, tails).split()
    alone = [exact([mel], [tail]).values for mel, tail in zip(mels, tails, strict=True)]
    return max(float((a - b).abs().max()) for a, b in zip(alone, batch, strict=True))


def _relative(found: Sequence[Tensor], expected: Sequence[Tensor]) -> list[float]:
    return [float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True)]


def sides(ours: AudioEncoder, theirs: nn.Module) -> dict[str, Callable[[Case], object]]:
    """Return what is timed."""
    return {
        "ours, true length": lambda case: ours(case.mels, case.tails),
        "ours, compatibility mode (30 s)": lambda case: ours.forward_padded(case.padded),
        "Hugging Face WhisperEncoder (30 s)": lambda case: theirs(case.padded),
    }


def time_both(ours: AudioEncoder, theirs: nn.Module, cases: Sequence[Case], *, repeats: int) -> list[list[object]]:
    """Return a table row for every encoder and precision."""
    rows: list[list[object]] = []
    seconds = sum(case.audio_s for case in cases)
    for precision in ("fp32", "bf16"):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            timings = interleave(sides(ours, theirs), cases, repeats=repeats)
        base = timings["Hugging Face WhisperEncoder (30 s)"]
        for name, timing in timings.items():
            speed, ratio = seconds / timing.median_s, base.median_s / timing.median_s
            ratio_cpu = base.median_cpu_s / timing.median_cpu_s
            rows.append([name, precision, f"{speed:.0f}", f"{ratio:.2f}", f"{ratio_cpu:.2f}"])
    return rows


@torch.inference_mode()
def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="table (CSV) or manifest of clips")
    parser.add_argument("--encoder", default="whisper-base")
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--batch-s", type=float, default=60.0, help="seconds of audio in a batch")
    parser.add_argument("--repeats", type=int, default=5, help="passes; the median counts")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/encoder_*.md")
    options = parser.parse_args()
    from transformers import WhisperModel

    keep_freed_memory()
    folder = resolve(options.encoder)
    ours, theirs = load_encoder(folder).eval(), WhisperModel.from_pretrained(folder, dtype=torch.float32).encoder.eval()
    waves = [torch.from_numpy(wave) for wave in read_waves(read_clips(options.data), options.clips)]
    cases = make_cases(waves, n_mels=ours.dims.n_mels, batch_s=options.batch_s)
    seconds = sum(case.audio_s for case in cases)
    lines = [f"- {line}" for line in check_equal(ours, theirs, cases[0])]
    lines = [
        f"{options.encoder}, {len(waves)} clips of {seconds / len(waves):.2f} s on average; {hardware()}",
        "",
        *lines,
        "",
        table(
            ["encoder", "precision", "audio s/s", "relative to HF", "by processor time"],
            time_both(ours, theirs, cases, repeats=options.repeats),
        ),
    ]
    print("\n".join(lines))
    if options.write:
        print(write_result("encoder", "\n".join(lines)))


if __name__ == "__main__":
    main()
