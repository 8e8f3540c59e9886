from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from tiny import tone
from uniwhisper.encoders import egemaps, load_encoder
from uniwhisper.encoders.conformance import check_encoder
from uniwhisper.errors import EncoderError


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(EncoderError, match=r"egemaps needs openSMILE: pip install 'uniwhisper\[egemaps\]'"):
        load_encoder("egemaps")


def test_one_row_of_functionals_a_clip() -> None:
    opensmile = pytest.importorskip("opensmile")
    encoder = load_encoder("egemaps")
    wave = tone(1.5, 220)
    rows = encoder.frames([wave, tone(0.02, 220)])
    assert [row.shape for row in rows] == [(1, 88), (1, 88)]
    names = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals).feature_names
    pitch = rows[0][0, names.index("F0semitoneFrom27.5Hz_sma3nz_amean")]
    assert pitch == pytest.approx(12 * np.log2(220 / 27.5), abs=0.5)


def test_it_conforms() -> None:
    pytest.importorskip("opensmile")
    findings = check_encoder(load_encoder("egemaps"), long_clip=False)
    assert {finding.name for finding in findings if finding.state != "ok"} == {"times", "ten minutes"}


def test_values_that_are_not_finite_are_refused() -> None:
    class Table:
        def to_numpy(self, dtype: Any) -> np.ndarray:
            return np.full((1, 88), np.nan, dtype=dtype)

    class Smile:
        def process_signal(self, wave: np.ndarray, rate: int) -> Table:
            return Table()

    encoder = egemaps.EgemapsEncoder(Smile(), "0")
    with pytest.raises(EncoderError, match=r"finite values for wave 0 \(1.00 s\), found \[1, 88\], 0 of them finite"):
        encoder.frames([np.zeros(16_000, dtype=np.float32)])
