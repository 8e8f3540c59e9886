from __future__ import annotations

import numpy as np
import pytest
import torch

from tiny import tone
from uniwhisper.encoders import load_encoder
from uniwhisper.encoders.conformance import check_encoder
from uniwhisper.errors import ConfigError
from uniwhisper.mel import log_mel


def test_mean_over_rows_is_mean_and_deviation() -> None:
    wave = tone(1.23, 440, noise=0.1) * np.linspace(0.1, 1, round(1.23 * 16_000), dtype=np.float32)
    (rows,) = load_encoder("log-mel").frames([wave])
    bands = log_mel(torch.from_numpy(wave)).numpy()
    assert rows.shape == (123, 160)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows[:, :80], bands.T, rtol=0, atol=1e-6)
    np.testing.assert_allclose(rows.mean(axis=0), np.r_[bands.mean(axis=1), bands.std(axis=1)], rtol=0, atol=1e-5)


def test_silence_does_not_deviate() -> None:
    (rows,) = load_encoder("log-mel").frames([np.zeros(1600, dtype=np.float32)])
    np.testing.assert_allclose(rows[:, 80:], 0, atol=1e-6)


def test_it_conforms() -> None:
    encoder = load_encoder("log-mel")
    assert {finding.state for finding in check_encoder(encoder)} == {"ok"}
    assert getattr(encoder, "trained_on") == ()  # noqa: B009
    assert getattr(encoder, "training_known") is True  # noqa: B009


def test_precision_is_fixed() -> None:
    with pytest.raises(ConfigError, match="precision: expected one of fp32, found 'bf16'"):
        load_encoder("log-mel", precision="bf16")
