from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import uniwhisper
from tiny import randomise, tiny_whisper, tone
from uniwhisper import audio, embed
from uniwhisper.checkpoint import save_audio_model
from uniwhisper.embed import AudioEmbedder, Encoder, load
from uniwhisper.errors import AudioError, CheckpointError, ConfigError, EncoderError, WeightsError
from uniwhisper.mel import log_mel_tails
from uniwhisper.model.encoder import load_encoder
from uniwhisper.model.uniwhisper import AudioModel

RATE = audio.SAMPLE_RATE


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test its own cache."""
    folder = tmp_path / "home"
    monkeypatch.setenv("UNIWHISPER_HOME", str(folder))
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_whisper(tmp_path_factory.mktemp("whisper"), width=32, heads=2)


@pytest.fixture(scope="module")
def trained(whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder folder of a run whose subsampler is no mean any more."""
    model = AudioModel(load_encoder(whisper))
    randomise(model.subsampler, 3, scale=0.3)
    return save_audio_model(tmp_path_factory.mktemp("run") / "encoder", model, {})


@pytest.fixture
def encoder(trained: Path) -> AudioEmbedder:
    return load(trained)


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of windows of every forward pass."""
    calls: list[int] = []
    original = AudioEmbedder._encode_windows

    def count(self: AudioEmbedder, group: Any, parts: Any) -> None:
        calls.append(len(group))
        original(self, group, parts)

    monkeypatch.setattr(AudioEmbedder, "_encode_windows", count)
    return calls


def waves() -> list[np.ndarray]:
    return [tone(duration_s, 150 * (n + 2), seed=n) for n, duration_s in enumerate((0.4, 1.0, 0.113, 2.3))]


def test_vector_is_the_mean_of_the_models_frames(encoder: AudioEmbedder, trained: Path) -> None:
    wave = waves()[1]
    mel, tail = log_mel_tails([torch.from_numpy(wave)])[0]
    with torch.no_grad():
        frames = encoder.model([mel], [tail]).values
    assert frames.shape == (25, 32)
    vectors = encoder.embed(wave)
    assert vectors.shape == (1, 32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[0], frames.mean(dim=0).numpy(), atol=1e-5)
    np.testing.assert_allclose(encoder.frames([wave])[0], frames.numpy(), atol=1e-5)


def test_solo_equals_batch(encoder: AudioEmbedder) -> None:
    together = encoder.embed(waves(), cache=False)
    alone = np.concatenate([encoder.embed([wave], cache=False) for wave in waves()])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    for wave, frames in zip(waves(), encoder.frames(waves()), strict=True):
        np.testing.assert_allclose(encoder.frames([wave])[0], frames, atol=1e-5)


def test_order_and_grouping_of_the_inputs_change_nothing(
    encoder: AudioEmbedder, forwards: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encoder.embed(waves(), cache=False)
    monkeypatch.setattr(embed, "_BATCH_S", 1.2)
    grouped = encoder.embed(waves()[::-1], cache=False)[::-1]
    np.testing.assert_allclose(grouped, whole, atol=1e-5)
    assert forwards == [4, 1, 2, 1]  # the second time in groups of at least 1.2 s, the longest clips first


def test_files_and_arrays_give_the_same(encoder: AudioEmbedder, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, waves()[0], RATE, subtype="FLOAT")
    expected = encoder.embed(waves()[0], cache=False)
    forms = [path, str(path), torch.from_numpy(waves()[0]), waves()[0].astype(np.float64)]
    for form in (*forms, *([form] for form in forms)):
        np.testing.assert_allclose(encoder.embed(form, cache=False), expected, atol=1e-5)
    assert len(encoder.embed([path, waves()[1], str(path)])) == 3


def test_arrays_of_another_rate_and_with_channels_are_converted(encoder: AudioEmbedder) -> None:
    times = np.arange(RATE * 3) / (RATE * 3)
    wave = (0.3 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
    expected = encoder.embed(audio.to_wave(wave, 48_000), cache=False)
    np.testing.assert_allclose(
        encoder.embed(np.stack([wave, wave]), sample_rate=48_000, cache=False), expected, atol=1e-4
    )
    assert not np.allclose(encoder.embed(wave, cache=False), expected, atol=1e-2)


def test_no_inputs_give_no_vectors(encoder: AudioEmbedder) -> None:
    assert encoder.embed([]).shape == (0, 32)
    assert encoder.frames([]) == []


def test_cached_vectors_are_the_same_bits_and_cost_no_forward(
    encoder: AudioEmbedder, trained: Path, forwards: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, waves()[0], RATE)
    items: list[Any] = [path, waves()[1], waves()[2]]
    first = encoder.embed(items)
    assert forwards == [3]
    again = load(trained).embed(items)
    np.testing.assert_array_equal(again, first)
    assert forwards == [3]
    mixed = encoder.embed([waves()[3], *items])
    np.testing.assert_array_equal(mixed[1:], first)
    assert forwards == [3, 1]
    path.rename(tmp_path / "b.wav")
    np.testing.assert_array_equal(encoder.embed(tmp_path / "b.wav"), first[:1])  # content counts, not names
    assert forwards == [3, 1]
    encoder.embed(items[1:], cache=False)
    assert forwards == [3, 1, 2]


def test_a_changed_file_is_computed_again(encoder: AudioEmbedder, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, waves()[0], RATE)
    first = encoder.embed(path)
    soundfile.write(path, waves()[1], RATE)
    assert not np.allclose(encoder.embed(path), first)


def test_cache_keeps_encoders_apart(trained: Path, whisper: Path, tmp_path: Path, forwards: list[int]) -> None:
    model = AudioModel(load_encoder(whisper))
    with torch.no_grad():
        model.encoder.layers[1].fc2.bias += 0.1  # type: ignore[operator, union-attr]
    other = save_audio_model(tmp_path / "other", model, {})
    ways = [
        load(trained),
        load(trained, precision="bf16"),
        load(trained, frames="encoder"),
        load(whisper),
        load(other),
    ]
    assert len({way.fingerprint for way in ways}) == len(ways)
    vectors = [way.embed(waves()[0]) for way in ways]
    assert len(forwards) == len(ways)
    assert all(not np.array_equal(a, b) for n, a in enumerate(vectors) for b in vectors[:n])
    assert load(trained).fingerprint == ways[0].fingerprint


@pytest.mark.parametrize(("seconds", "num_frames"), [(70.0, 1750), (30.0, 750), (30.0001, 751), (60.02, 1501)])
def test_long_audio_is_windows_of_30_seconds(
    encoder: AudioEmbedder, forwards: list[int], seconds: float, num_frames: int
) -> None:
    wave = tone(seconds, 300, noise=0.1)
    frames = encoder.frames([wave])[0]
    assert frames.shape == (num_frames, 32)
    parts = [wave[start : start + 30 * RATE] for start in range(0, len(wave), 30 * RATE)]
    alone = np.concatenate([encoder.frames([part])[0] for part in parts])
    np.testing.assert_allclose(frames, alone, atol=1e-5)
    np.testing.assert_allclose(encoder.embed(wave)[0], alone.mean(axis=0), atol=1e-5)
    assert max(forwards) <= 3


def test_frame_times_are_exact(encoder: AudioEmbedder, trained: Path) -> None:
    wave = tone(70.0, 300)
    timed = encoder.timed_frames([wave])[0]
    assert timed.values.shape == (1750, 32)
    np.testing.assert_array_equal(timed.times_s, (40 * np.arange(1750) + 20) / 1000)
    fine = load(trained, frames="encoder").timed_frames([wave, wave[:RATE]])
    assert fine[0].values.shape == (3500, 32)
    np.testing.assert_array_equal(fine[1].times_s, (20 * np.arange(50) + 10) / 1000)


def test_frames_before_and_after_the_subsampler(trained: Path) -> None:
    before, after = load(trained, frames="encoder"), load(trained)
    assert (before.hop_ms, after.hop_ms) == (20.0, 40.0)
    wave = waves()[3]
    fine, coarse = before.frames([wave])[0], after.frames([wave])[0]
    assert (len(fine), len(coarse)) == (115, 58)
    conv = after.model.subsampler.conv
    pairs = torch.from_numpy(np.concatenate([fine, fine[-1:]]).T[None])
    np.testing.assert_allclose(coarse, conv(pairs)[0].T.numpy(), atol=1e-4)


def test_a_stock_whisper_averages_frames_in_pairs(whisper: Path) -> None:
    fine = load(whisper, frames="encoder").frames([waves()[1]])[0]
    coarse = load(whisper).frames([waves()[1]])[0]
    np.testing.assert_allclose(coarse, fine.reshape(25, 2, 32).mean(axis=1), atol=1e-5)


@pytest.mark.parametrize(("num_samples", "num_frames"), [(1, 1), (160, 1), (1600, 3), (1920, 3), (1921, 4)])
def test_short_clips_have_frames(encoder: AudioEmbedder, num_samples: int, num_frames: int) -> None:
    wave = tone(1.0, 440)[:num_samples]
    assert encoder.frames([wave])[0].shape == (num_frames, 32)
    assert np.isfinite(encoder.embed(wave)).all()


def test_silence_is_audio(encoder: AudioEmbedder) -> None:
    silence = np.zeros(RATE, dtype=np.float32)
    vectors = encoder.embed([silence, waves()[0]])
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[0], encoder.embed(silence, cache=False)[0], atol=1e-5)


BAD: dict[str, Callable[[], Any]] = {
    "nan": lambda: np.full(800, np.nan, dtype=np.float32),
    "infinite": lambda: np.full(800, np.inf, dtype=np.float32),
    "empty": lambda: np.zeros(0, dtype=np.float32),
    "huge": lambda: np.full(800, 1e4, dtype=np.float32),
    "text": lambda: np.array(["a", "b"]),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_what_is_no_audio_is_refused_by_number(encoder: AudioEmbedder, name: str) -> None:
    inputs = [waves()[0], waves()[1], BAD[name]()]
    with pytest.raises(AudioError, match="input 2: "):
        encoder.frames(inputs)
    with pytest.raises(AudioError, match="input 2: "):
        encoder.embed(inputs, cache=False)


@pytest.mark.parametrize("name", sorted(BAD))
def test_what_is_no_audio_is_refused_by_number_where_vectors_are_cached(encoder: AudioEmbedder, name: str) -> None:
    with pytest.raises(AudioError, match="input 2: "):
        encoder.embed([waves()[0], waves()[1], BAD[name]()])


def test_a_file_that_is_no_audio_is_refused_by_name(encoder: AudioEmbedder, tmp_path: Path) -> None:
    (tmp_path / "notes.wav").write_text("nothing to hear")
    for cache in (True, False):
        with pytest.raises(AudioError, match=r"notes\.wav"):
            encoder.embed([waves()[0], tmp_path / "notes.wav"], cache=cache)
        with pytest.raises(AudioError, match=r"missing\.wav"):
            encoder.embed([tmp_path / "missing.wav"], cache=cache)


def test_frames_that_are_not_finite_are_refused(encoder: AudioEmbedder) -> None:
    with torch.no_grad():
        encoder.model.encoder.conv1.weight[0] = torch.nan
    encoder._store.put_many({encoder._key(waves()[0], RATE, 0): np.zeros(32, dtype=np.float32)})
    with pytest.raises(EncoderError, match="frames of input 1 are not finite"):
        encoder.embed([waves()[0], waves()[1]])


def test_bf16_is_close_and_float32(trained: Path, encoder: AudioEmbedder) -> None:
    found = load(trained, precision="bf16").embed(waves()[1], cache=False)
    expected = encoder.embed(waves()[1], cache=False)
    assert found.dtype == np.float32
    assert not np.array_equal(found, expected)
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_the_run_folder_and_its_encoder_folder_are_the_same(trained: Path) -> None:
    run, inner = load(trained.parent), load(trained)
    assert run.fingerprint == inner.fingerprint
    np.testing.assert_array_equal(run.embed(waves()[0], cache=False), inner.embed(waves()[0], cache=False))


def test_an_embedder_is_an_encoder(encoder: AudioEmbedder) -> None:
    assert isinstance(encoder, Encoder)
    assert not isinstance(object(), Encoder)
    assert (encoder.sample_rate, encoder.dim, encoder.hop_ms) == (16_000, 32, 40.0)
    assert uniwhisper.load is load
    assert uniwhisper.Encoder is Encoder
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert not encoder.model.training


def test_impossible_settings_are_refused(trained: Path) -> None:
    with pytest.raises(ConfigError, match="precision: expected fp32 or bf16, found 'fp16'"):
        load(trained, precision="fp16")
    with pytest.raises(ConfigError, match=r"frames: expected one of .*'subsampled'.*found 'both'"):
        load(trained, frames="both")


def test_names_without_weights_are_refused() -> None:
    with pytest.raises(WeightsError, match="expected pretrained weights for 'nothing-here'"):
        load("nothing-here")


@pytest.mark.parametrize("frames", ["subsampled", "encoder"])
def test_an_interrupted_encoder_folder_is_refused(trained: Path, tmp_path: Path, frames: str) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((trained / name).read_bytes())
    with pytest.raises(CheckpointError, match=r"\(with DONE\), found none; was it interrupted"):
        load(folder, frames=frames)


def test_a_run_that_is_not_finished_is_refused_as_one(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "step_0000005").mkdir(parents=True)
    (tmp_path / "config.json").write_text('{"key": "k", "config": {}}')
    with pytest.raises(CheckpointError):
        load(tmp_path)
