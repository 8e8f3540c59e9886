"""What every family promises, on small random models of each kind."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from uniwhisper.embed import Encoder
from uniwhisper.encoders import load_encoder
from uniwhisper.errors import AudioError, ConfigError

from .small import MAKERS, noise

HOPS_MS = {"ast": 100.0, "clap": 312.5, "clap-fused": 312.5, "beats": 160.0, "dasheng": 40.0, "whisper": 40.0}
ModelOf = Callable[[str], Path]


@pytest.fixture(params=sorted(MAKERS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def encoder(kind: str, model_of: ModelOf) -> Encoder:
    return load_encoder(str(model_of(kind)))


def test_it_says_what_the_protocol_asks(encoder: Encoder, kind: str) -> None:
    assert isinstance(encoder, Encoder)
    assert encoder.sample_rate == (48_000 if kind.startswith("clap") else 16_000)
    assert encoder.hop_ms == HOPS_MS.get(kind, 20.0)
    assert len(encoder.fingerprint) == 64
    assert encoder.trained_on == ()  # type: ignore[attr-defined]
    assert encoder.training_known is False  # type: ignore[attr-defined]


def test_frames_are_float32_and_cover_the_clip(encoder: Encoder) -> None:
    rate = encoder.sample_rate
    found = encoder.frames([noise(rate * 3, 1), noise(rate * 7, 2)])
    for seconds, frames in zip((3, 7), found, strict=True):
        assert frames.dtype == np.float32
        assert frames.shape[1] == encoder.dim
        assert np.isfinite(frames).all()
        # the last ones may need more samples than are left: a quarter of a second at most, or half a CLAP frame
        assert abs(len(frames) * encoder.hop_ms / 1000 - seconds) <= max(0.25, encoder.hop_ms / 2000)


def test_neighbours_change_nothing(encoder: Encoder) -> None:
    rate = encoder.sample_rate
    clip = noise(int(2.3 * rate), 3)
    others = [noise(rate * 9, 4) * 5, noise(rate // 3, 5)]
    alone = encoder.frames([clip])[0]
    between = encoder.frames([others[0], clip, others[1]])[1]
    assert between.shape == alone.shape
    np.testing.assert_allclose(between, alone, atol=1e-5, rtol=0)
    assert np.abs(alone).max() > 0.05  # so that 1e-5 says something
    assert alone.std(axis=0).max() > 1e-3 or len(alone) == 1


def test_the_same_list_gives_the_same_bits(encoder: Encoder) -> None:
    clips = [noise(encoder.sample_rate * n, n) for n in (1, 4, 2)]
    for first, second in zip(encoder.frames(clips), encoder.frames(clips), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("num_samples", [1, 160, 1600])
def test_very_short_clips_have_frames(encoder: Encoder, num_samples: int) -> None:
    num_samples *= encoder.sample_rate // 16_000
    (frames,) = encoder.frames([noise(num_samples, 6)])
    assert 1 <= len(frames) <= max(1, num_samples / encoder.sample_rate * 1000 / encoder.hop_ms + 1)
    assert np.isfinite(frames).all()


def test_silence_is_finite(encoder: Encoder) -> None:
    (frames,) = encoder.frames([np.zeros(encoder.sample_rate, np.float32)])
    assert np.isfinite(frames).all()


def test_no_clips_no_frames(encoder: Encoder) -> None:
    assert encoder.frames([]) == []


def test_long_clips_go_through_in_windows_of_bounded_size(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(encoder, "_network"):
        pytest.skip("embed.py has tests of its own")
    network = encoder._network  # type: ignore[attr-defined]
    sizes: list[int] = []
    run = network.run

    def measured(values: list[torch.Tensor]) -> list[torch.Tensor]:
        sizes.append(len(values) * max(len(v) for v in values))
        return run(values)

    monkeypatch.setattr(network, "run", measured)
    rate = encoder.sample_rate
    (frames,) = encoder.frames([noise(rate * 95, 7)])
    assert abs(len(frames) * encoder.hop_ms / 1000 - 95) <= 0.5
    assert len(sizes) >= 2
    samples_each = 160 if max(sizes) < 60 * 100 + 1 else 1  # Dasheng's windows hold mel frames
    assert max(sizes) * samples_each <= 61 * rate


@pytest.mark.slow
@pytest.mark.parametrize("heavy", ["wav2vec2-large", "wavlm-base", "ast", "clap", "beats", "dasheng"])
def test_ten_minutes_fit_in_memory(heavy: str, model_of: ModelOf) -> None:
    encoder = load_encoder(str(model_of(heavy)))
    wave = noise(encoder.sample_rate * 600, 7)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (frames,) = encoder.frames([wave])
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert abs(len(frames) * encoder.hop_ms / 1000 - 600) <= 0.5
    assert grown_mb < 1500


@pytest.mark.parametrize("whole", ["hubert-base", "wavlm-base", "ast", "clap", "clap-fused", "beats"])
def test_windows_continue_one_grid(whole: str, model_of: ModelOf) -> None:
    """Without statistics of the whole clip, what follows a seam is what a clip that begins there yields."""
    encoder = load_encoder(str(model_of(whole)))
    grid = encoder._network.grid  # type: ignore[attr-defined]
    seam = grid.frames * grid.stride
    clip = noise(seam + seam // 3, 8)
    (frames,) = encoder.frames([clip])
    (after,) = encoder.frames([clip[seam:]])
    (before,) = encoder.frames([clip[: max(grid.window, seam - grid.stride + grid.receptive)]])
    assert len(frames) == grid.frames + len(after)
    np.testing.assert_allclose(frames[grid.frames :], after, atol=1e-5, rtol=0)
    np.testing.assert_allclose(frames[: grid.frames], before[: grid.frames], atol=1e-5, rtol=0)


def test_bf16_is_near_and_has_a_fingerprint_of_its_own(encoder: Encoder, kind: str, model_of: ModelOf) -> None:
    low = load_encoder(str(model_of(kind)), precision="bf16")
    assert low.fingerprint != encoder.fingerprint
    clip = noise(encoder.sample_rate * 2, 9)
    exact, rough = encoder.frames([clip])[0], low.frames([clip])[0]
    assert rough.dtype == np.float32
    cosine = (exact * rough).sum() / (np.linalg.norm(exact) * np.linalg.norm(rough))
    assert cosine > 0.98
    assert not np.array_equal(exact, rough)


def test_unknown_precision_is_refused(kind: str, model_of: ModelOf) -> None:
    with pytest.raises(ConfigError, match="precision: expected"):
        load_encoder(str(model_of(kind)), precision="int4")


def test_what_is_no_wave_is_refused(encoder: Encoder, kind: str) -> None:
    if kind == "whisper":
        pytest.skip("it takes files and more; see test_embed.py")
    bad = [
        (np.zeros((2, 100), np.float32), "mono wave"),
        (np.zeros(0, np.float32), "with samples"),
        (np.full(5000, np.nan, np.float32), "NaN"),
        (np.zeros(5000, np.int16), "int16"),
    ]
    for wave, reason in bad:
        with pytest.raises(AudioError, match=f"input 1: .*{reason}"):
            encoder.frames([noise(5000, 1), wave])


def test_one_changed_weight_changes_the_fingerprint(kind: str, model_of: ModelOf, tmp_path: Path) -> None:
    source = model_of(kind)
    copy = tmp_path / source.name
    shutil.copy(source, copy) if source.is_file() else shutil.copytree(source, copy)
    same = load_encoder(str(copy)).fingerprint
    assert same == load_encoder(str(source)).fingerprint  # the path is no part of it
    weights = copy if copy.is_file() else copy / "model.safetensors"
    if weights.suffix == ".pt":
        checkpoint = torch.load(weights, weights_only=True)
        checkpoint["model"]["layer_norm.bias"] += 1
        torch.save(checkpoint, weights)
    else:
        from safetensors.torch import load_file, save_file

        tensors = load_file(weights)
        first = next(name for name in sorted(tensors) if tensors[name].is_floating_point())
        tensors[first] = tensors[first] + 1
        save_file(tensors, weights, metadata={"format": "pt"})
    assert load_encoder(str(copy)).fingerprint != same
