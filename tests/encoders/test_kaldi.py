"""The filter bank against Kaldi's definition, written out sample by sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from uniwhisper.encoders._kaldi import fbank, num_fbank_frames

from .small import noise


def _restated(wave: np.ndarray, bands: int, exponent: float) -> np.ndarray:
    """Log-mel energies by Kaldi's definition: discrete Fourier sums and triangles, no library, in float64."""

    def mel(hz: float) -> float:
        return 1127.0 * math.log(1.0 + hz / 700.0)

    low, high = mel(20.0), mel(8000.0)
    width = (high - low) / (bands + 1)
    rows = []
    for start in range(0, len(wave) - 400 + 1, 160):
        frame = wave[start : start + 400].astype(np.float64)
        frame = frame - frame.sum() / 400
        emphasised = [frame[0] - 0.97 * frame[0]] + [frame[n] - 0.97 * frame[n - 1] for n in range(1, 400)]
        tapered = [x * (0.5 - 0.5 * math.cos(2 * math.pi * n / 399)) ** exponent for n, x in enumerate(emphasised)]
        turns = np.exp(-2j * np.pi * np.outer(np.arange(256), np.arange(400)) / 512)
        power = np.abs(turns @ np.array(tapered)) ** 2
        row = []
        for band in range(bands):
            left, centre, right = (low + (band + k) * width for k in range(3))
            energy = 0.0
            for k in range(256):
                at = mel(k * 16_000 / 512)
                if left < at < right:
                    energy += power[k] * ((at - left) / width if at <= centre else (right - at) / width)
            row.append(math.log(max(energy, 1.1920928955078125e-07)))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize(("window", "exponent"), [("povey", 0.85), ("hanning", 1.0)])
@pytest.mark.parametrize("bands", [23, 128])
def test_it_is_kaldis_filter_bank(window: str, exponent: float, bands: int) -> None:
    wave = noise(1111, 1) * 2**15 + 40
    ours = fbank(torch.from_numpy(wave), bands=bands, window=window)  # type: ignore[arg-type]
    expected = _restated(wave, bands, exponent)
    assert ours.shape == expected.shape == (5, bands)
    np.testing.assert_allclose(ours.numpy(), expected, atol=2e-4)


def test_it_is_what_transformers_computes_for_ast() -> None:
    import warnings

    from transformers import ASTFeatureExtractor

    wave = noise(16_000, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        extractor = ASTFeatureExtractor(do_normalize=False)
    theirs = extractor(wave, sampling_rate=16_000, return_tensors="np")["input_values"][0]
    ours = fbank(torch.from_numpy(wave), window="hanning").numpy()
    np.testing.assert_allclose(ours, theirs[: len(ours)], atol=1e-3)


@pytest.mark.parametrize("num_samples", [0, 399, 400, 559, 560, 16_000])
def test_frames_are_where_all_samples_are(num_samples: int) -> None:
    found = fbank(torch.zeros(num_samples))
    assert found.shape == (num_fbank_frames(num_samples), 128)
    assert bool((found == math.log(1.1920928955078125e-07)).all())


def test_blocks_do_not_show() -> None:
    wave = torch.from_numpy(noise(160 * 2100 + 400, 3))
    whole = fbank(wave)
    np.testing.assert_allclose(whole[2040:2060], fbank(wave[2040 * 160 : 2059 * 160 + 400]), atol=1e-4)
