"""Our log-mel against Hugging Face's `WhisperFeatureExtractor` and, where it is installed, openai-whisper's.

Checks on the same real clips that the padded log-mel equals the others and that the true-length one is its beginning,
and stops if not. Then times them clip by clip, and ours in batches, sides taking turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from clips import read_clips, read_waves
from timing import hardware, interleave, table, write_result
from uniwhisper import audio
from uniwhisper.allocator import keep_freed_memory
from uniwhisper.mel import log_mel, log_mel_batch, log_mel_padded

TOLERANCE = 1e-5

Waves = Sequence[np.ndarray]
Side = Callable[[Waves], list[torch.Tensor]]


def padded_sides(n_mels: int) -> dict[str, Side]:
    """Return every way to the log-mel of the 30 s window; they must agree."""
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=n_mels)
    rate = audio.SAMPLE_RATE
    found: dict[str, Side] = {
        "ours, padded to 30 s": lambda waves: [log_mel_padded(torch.from_numpy(w), n_mels) for w in waves],
        "Hugging Face extractor": lambda waves: list(
            extractor(list(waves), sampling_rate=rate, return_tensors="pt").input_features
        ),
    }
    try:
        import whisper  # type: ignore[import-not-found]
    except ImportError:
        return found
    if not hasattr(whisper, "log_mel_spectrogram"):  # another package of that name
        return found
    found["openai-whisper"] = lambda waves: [
        whisper.log_mel_spectrogram(whisper.pad_or_trim(torch.from_numpy(w)), n_mels) for w in waves
    ]
    return found


def true_length_sides(n_mels: int) -> dict[str, Side]:
    """Return our ways to the log-mel of the clip itself."""
    return {
        "ours, true length, one clip at a time": lambda waves: [log_mel(torch.from_numpy(w), n_mels) for w in waves],
        "ours, true length, in batches": lambda waves: list(
            log_mel_batch([torch.from_numpy(w) for w in waves], n_mels)[0]
        ),
    }


def check_equal(waves: Waves, n_mels: int) -> list[str]:
    """Return the largest differences.

    Raises:
        SystemExit: Two padded log-mels differ by more than 1e-5, or a true-length one is not the beginning.
    """
    sides = padded_sides(n_mels)
    reference = sides.pop("ours, padded to 30 s")(waves)
    lines = []
    for name, side in sides.items():
        gap = max(float((a - b).abs().max()) for a, b in zip(reference, side(waves), strict=True))
        lines.append(f"padded, against {name}: largest difference {gap:.1e}")
        if gap > TOLERANCE:
            raise SystemExit(lines[-1])
    limit = audio.WINDOW_SAMPLES - audio.N_FFT  # a full window is reflected at its end by the reference
    gaps = [
        float((a[:, : mel.shape[1]] - mel).abs().max())
        for a, wave in zip(reference, waves, strict=True)
        if len(wave) < limit and (mel := log_mel(torch.from_numpy(wave), n_mels)) is not None
    ]
    lines.append(f"true length, against the beginning of the padded one: largest difference {max(gaps):.1e}")
    if max(gaps) > TOLERANCE:
        raise SystemExit(lines[-1])
    return lines


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="table (CSV) or manifest of clips")
    parser.add_argument("--mels", type=int, choices=(80, 128), default=80)
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--batch", type=int, default=12, help="clips in a batch")
    parser.add_argument("--repeats", type=int, default=7, help="passes; the median counts")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/log_mel_*.md")
    options = parser.parse_args()
    keep_freed_memory()
    waves = read_waves(read_clips(options.data), options.clips)
    seconds = sum(map(len, waves)) / audio.SAMPLE_RATE
    checked = check_equal(waves[: options.batch], options.mels)
    cases = [waves[i : i + options.batch] for i in range(0, len(waves), options.batch)]
    sides = padded_sides(options.mels) | true_length_sides(options.mels)
    timings = interleave(sides, cases, repeats=options.repeats)
    base = timings["Hugging Face extractor"]
    rows = [
        [
            name,
            f"{1e3 * timing.median_s / len(waves):.2f}",
            f"{seconds / timing.median_s:.0f}",
            f"{base.median_s / timing.median_s:.2f}",
            f"{base.median_cpu_s / timing.median_cpu_s:.2f}",
        ]
        for name, timing in timings.items()
    ]
    lines = [
        f"{options.mels} mel bins, {len(waves)} clips of {seconds / len(waves):.2f} s on average; {hardware()}",
        "",
        *(f"- {line}" for line in checked),
        "" if "openai-whisper" in timings else "- openai-whisper is not installed: not compared\n",
        table(["log-mel", "ms a clip", "audio s/s", "relative to HF", "by processor time"], rows),
    ]
    print("\n".join(lines))
    if options.write:
        print(write_result("log_mel", "\n".join(lines)))


if __name__ == "__main__":
    main()
