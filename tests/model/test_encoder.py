"""Our encoder against Hugging Face's: the same random weights, three ways of running them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import WhisperModel

from tiny import tiny_whisper, tone
from uniwhisper.errors import EncoderError, WeightsError
from uniwhisper.mel import log_mel, log_mel_padded, silence_value
from uniwhisper.model.dims import EncoderDims
from uniwhisper.model.encoder import AudioEncoder, load_encoder
from uniwhisper.weights import hf_to_openai, openai_to_hf, resolve

SILENCE = -0.6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> AudioEncoder:
    return load_encoder(folder)


@pytest.fixture(scope="module")
def hf(folder: Path) -> Any:
    return hf_encoder(folder)


def hf_encoder(folder: Path) -> Any:
    model = WhisperModel.from_pretrained(folder, dtype=torch.float32)
    return model.eval().get_encoder()


def random_mel(num_frames: int, *, seed: int = 0, n_mels: int = 80) -> Tensor:
    return torch.randn(n_mels, num_frames, generator=torch.Generator().manual_seed(seed)) * 0.5


def padded(mel: Tensor, silence: float) -> Tensor:
    return functional.pad(mel, (0, 3000 - mel.shape[1]), value=silence)


def hf_front_end(hf: Any, mel: Tensor) -> Tensor:
    """Return the stock encoder's convolution features of one full window [1500, D]."""
    return functional.gelu(hf.conv2(functional.gelu(hf.conv1(mel[None]))))[0].T


def hf_masked(hf: Any, mel: Tensor, num_frames: int) -> Tensor:
    """Return the first `num_frames` of the stock encoder on a full window when it may attend to those alone."""
    x = (hf_front_end(hf, mel) + hf.embed_positions.weight)[None]
    mask = torch.zeros(1, 1, 1, x.shape[1])
    mask[..., num_frames:] = torch.finfo(torch.float32).min
    for layer in hf.layers:
        x = layer(x, mask)
    return hf.layer_norm(x)[0, :num_frames]


@pytest.mark.parametrize(("n_mels", "layers", "heads"), [(80, 2, 4), (128, 1, 2)])
def test_compat_mode_is_the_stock_encoder(tmp_path: Path, n_mels: int, layers: int, heads: int) -> None:
    folder = tiny_whisper(tmp_path, n_mels=n_mels, layers=layers, heads=heads, seed=5)
    mel = torch.stack([random_mel(3000, seed=seed, n_mels=n_mels) for seed in (1, 2)])
    with torch.no_grad():
        found = load_encoder(folder).forward_padded(mel)
        expected = hf_encoder(folder)(mel).last_hidden_state
    assert expected.std() > 0.5
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("user_home")
def test_compat_mode_is_the_stock_encoder_with_real_weights() -> None:
    try:
        folder = resolve("whisper-base")
    except WeightsError as error:
        pytest.skip(f"whisper-base is neither in the cache nor to be had: {error}")
    wave = functional.pad(torch.from_numpy(tone(4.0, 330, noise=0.1)), (0, 400))
    ours, hf = load_encoder(folder), hf_encoder(folder)
    with torch.no_grad():
        mel = log_mel_padded(wave)
        compat, stock = ours.forward_padded(mel[None])[0], hf(mel[None]).last_hidden_state[0]
        own = log_mel(wave)
        true_length = ours([own], [float(silence_value(own))]).values
        masked = hf_masked(hf, mel, len(true_length))
    assert float((compat - stock).abs().max()) <= 1e-4
    # Another attention kernel (a mask, other lengths): with features of up to 24, float32 then differs by up to 5e-4.
    assert float((true_length - masked).abs().max()) <= 2e-3
    torch.testing.assert_close(ours.embed_positions.weight, hf.embed_positions.weight, atol=0, rtol=0)


def test_state_dict_is_hugging_faces_in_both_directions(encoder: AudioEncoder, hf: Any) -> None:
    ours, theirs = encoder.state_dict(), hf.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    twin = AudioEncoder(encoder.dims)
    twin.load_state_dict(theirs)
    hf.load_state_dict(twin.state_dict())
    mel = random_mel(20)
    with torch.no_grad():
        assert torch.equal(twin([mel], [SILENCE]).values, encoder([mel], [SILENCE]).values)


def test_state_dict_goes_through_openais_names_and_back(tmp_path: Path, encoder: AudioEncoder) -> None:
    openai = hf_to_openai({f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()})
    assert "encoder.blocks.1.attn.query.weight" in openai
    assert "encoder.positional_embedding" in openai
    save_file({name: tensor.clone() for name, tensor in openai_to_hf(openai).items()}, tmp_path / "model.safetensors")
    hub = encoder.dims.to_hub()
    (tmp_path / "config.json").write_text(str(hub).replace("'", '"'), encoding="utf-8")
    back = load_encoder(tmp_path).state_dict()
    assert all(torch.equal(back[name], tensor) for name, tensor in encoder.state_dict().items())


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 400), min_size=2, max_size=6), seed=st.integers(0, 99))
def test_frames_do_not_depend_on_the_batch(encoder: AudioEncoder, lengths: list[int], seed: int) -> None:
    mels = [random_mel(length, seed=seed + n) for n, length in enumerate(lengths)]
    silence = [-1.5 + 0.3 * n for n in range(len(lengths))]
    with torch.no_grad():
        packed = encoder(mels, silence)
        solo = [encoder([mel], [value]).values for mel, value in zip(mels, silence, strict=True)]
    assert packed.lengths == tuple((length + 1) // 2 for length in lengths)
    for found, expected in zip(packed.split(), solo, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5, 30, 31, 399, 400, 2997, 2998])
def test_front_end_is_the_stock_one_at_valid_frames(encoder: AudioEncoder, hf: Any, num_frames: int) -> None:
    mel, other = random_mel(num_frames), random_mel(7, seed=9)
    valid = (num_frames + 1) // 2
    with torch.no_grad():
        hidden, rows = encoder._convolve([other, mel, other], [2.0, SILENCE, 2.0])
        expected = hf_front_end(hf, padded(mel, SILENCE))[:valid]
    torch.testing.assert_close(hidden[rows][4 : 4 + valid], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_frames", [2999, 3000])
def test_front_end_of_a_full_window_ends_as_the_stock_one(encoder: AudioEncoder, hf: Any, num_frames: int) -> None:
    mel = random_mel(num_frames)
    with torch.no_grad():
        hidden, rows = encoder._convolve([mel], [SILENCE])
        expected = hf_front_end(hf, padded(mel, SILENCE))
    torch.testing.assert_close(hidden[rows], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 50, 51, 333, 400])
def test_true_length_is_the_stock_encoder_with_a_key_mask(encoder: AudioEncoder, hf: Any, num_frames: int) -> None:
    mel = random_mel(num_frames, seed=num_frames)
    with torch.no_grad():
        found = encoder([random_mel(11), mel], [0.3, SILENCE]).split()[1]
        expected = hf_masked(hf, padded(mel, SILENCE), (num_frames + 1) // 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_samples", [1600, 8_080, 20_001])
def test_true_length_log_mel_gives_what_the_padded_one_gives(encoder: AudioEncoder, hf: Any, num_samples: int) -> None:
    # The last 25 ms are silent: where a clip ends loudly, the two mel frames after its end still hear it in the stock
    # window, while here they are silence.
    wave = functional.pad(torch.from_numpy(tone(2.0, 440)[: num_samples - 400]), (0, 400))
    mel = log_mel(wave)
    with torch.no_grad():
        found = encoder([mel], [float(silence_value(mel))]).values
        expected = hf_masked(hf, log_mel_padded(wave), len(found))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_positions_are_whispers_sinusoids_and_never_learnt(encoder: AudioEncoder) -> None:
    table = encoder.embed_positions.weight
    steps = torch.arange(32) * (torch.log(torch.tensor(10_000.0)) / 31)
    angles = torch.arange(1500)[:, None] * torch.exp(-steps)[None]
    torch.testing.assert_close(table, torch.cat([angles.sin(), angles.cos()], dim=1), atol=1e-3, rtol=0)
    assert not table.requires_grad
    encoder([random_mel(40)], [SILENCE]).values.square().mean().backward()
    try:
        assert table.grad is None
        assert all(p.grad is not None for p in encoder.parameters() if p is not table)
    finally:
        encoder.zero_grad(set_to_none=True)


@pytest.mark.parametrize(
    ("mels", "message"),
    [
        ([], "at least one log-mel"),
        ([torch.zeros(80, 4), torch.zeros(80, 0)], r"clip 1 .* found \[80, 0\]"),
        ([torch.zeros(80, 3001)], r"1\.\.3000\], found \[80, 3001\]; cut longer audio"),
        ([torch.zeros(128, 4)], r"clip 0 .*\[80, .* found \[128, 4\]"),
        ([torch.zeros(80)], r"found \[80\]"),
        ([torch.zeros(1, 80, 4)], r"found \[1, 80, 4\]"),
    ],
)
def test_what_is_no_log_mel_is_refused(encoder: AudioEncoder, mels: list[Tensor], message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        encoder(mels, [SILENCE] * len(mels))


@pytest.mark.parametrize("shape", [(1, 80, 2999), (80, 3000), (1, 80, 3001)])
def test_compat_mode_takes_full_windows_only(encoder: AudioEncoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(EncoderError, match=r"compat mode: expected log-mels \[B, 80, 3000\]"):
        encoder.forward_padded(torch.zeros(shape))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("encoder.layers.1.fc2.bias"), r"missing \['layers.1.fc2.bias'\]"),
        (lambda state: state.update({"encoder.layers.2.fc2.bias": torch.zeros(4)}), r"unknown \['layers.2.fc2.bias'\]"),
        (lambda state: state.update({"encoder.conv1.bias": torch.zeros(4)}), r"wrong shape \['conv1.bias'\]"),
    ],
    ids=["missing", "unknown", "shape"],
)
def test_weights_of_another_encoder_are_refused_by_name(
    tmp_path: Path, folder: Path, change: Any, message: str
) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(WeightsError, match=message):
        load_encoder(tmp_path)


def test_half_precision_weights_are_read_as_float32(tmp_path: Path, folder: Path) -> None:
    state = {f"model.{name}": value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    encoder = load_encoder(tmp_path)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert torch.equal(encoder.conv1.weight, state["model.encoder.conv1.weight"].float())


def test_window_length_follows_the_sizes() -> None:
    dims = EncoderDims(n_mels=4, n_audio_ctx=3, n_audio_state=8, n_audio_head=2, n_audio_layer=1)
    encoder = AudioEncoder(dims)
    assert encoder([torch.zeros(4, 6)], [0.0]).lengths == (3,)
    with pytest.raises(EncoderError, match=r"1\.\.6\]"):
        encoder([torch.zeros(4, 7)], [0.0])
