from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tiny import tone
from uniwhisper.encoders import load_encoder
from uniwhisper.encoders.conformance import check_encoder
from uniwhisper.errors import ConfigError, EncoderError

FILE = '''import torch

{imports}
class ToyEncoder(torch.nn.Module):
    """Frames of 40 ms through a fixed matrix; the level of the whole input is added, so that padding is heard."""

    def __init__(self):
        super().__init__()
        self.sampling_rate = 16000
        self.output_dim = 8
        self.hop_size_in_ms = 40
        self.register_buffer("matrix", torch.randn(640, 8, generator=torch.Generator().manual_seed({seed})))
        self.calls = []

    def forward(self, audio):
        self.calls.append(tuple(audio.shape))
        count = max(1, audio.shape[1] // 640)
        audio = torch.nn.functional.pad(audio, (0, max(0, count * 640 - audio.shape[1])))
        frames = audio[:, : count * 640].reshape(len(audio), count, 640) @ self.matrix
        return {result}
'''
RESULT = "frames + audio.std(dim=1)[:, None, None]"


def write(path: Path, *, imports: str = "", result: str = RESULT, seed: int = 0) -> str:
    path.write_text(FILE.format(imports=imports, result=result, seed=seed), encoding="utf-8")
    return str(path)


def test_clips_of_different_lengths_never_share_a_call(tmp_path: Path) -> None:
    encoder = load_encoder(write(tmp_path / "enc.py"))
    waves = [tone(s, 300, seed=n) for n, s in enumerate((0.5, 1.0, 0.5, 0.02))]
    together = encoder.frames(waves)
    calls = encoder._model.calls  # type: ignore[attr-defined]
    assert sorted(calls) == [(1, 320), (1, 16_000), (2, 8_000)]
    for wave, frames in zip(waves, together, strict=True):
        np.testing.assert_allclose(encoder.frames([wave])[0], frames, rtol=0, atol=1e-5)
        assert frames.dtype == np.float32
    assert [len(frames) for frames in together] == [12, 25, 12, 1]


def test_long_groups_are_split(tmp_path: Path) -> None:
    encoder = load_encoder(write(tmp_path / "enc.py"))
    encoder.frames([tone(25, 300, seed=n) for n in range(3)])
    assert encoder._model.calls == [(2, 400_000), (1, 400_000)]  # type: ignore[attr-defined]


def test_it_conforms(tmp_path: Path) -> None:
    encoder = load_encoder(write(tmp_path / "enc.py"))
    findings = check_encoder(encoder, long_clip=False)
    assert {finding.name for finding in findings if finding.state != "ok"} == {"ten minutes"}, findings
    assert (encoder.sample_rate, encoder.dim, encoder.hop_ms) == (16_000, 8, 40.0)


def test_fingerprint_follows_weights_and_code(tmp_path: Path) -> None:
    first = load_encoder(write(tmp_path / "a.py")).fingerprint
    assert load_encoder(write(tmp_path / "b.py")).fingerprint == first
    assert load_encoder(write(tmp_path / "c.py", imports="# other code\n")).fingerprint != first
    path = tmp_path / "weights.pt"
    code = f"import pathlib\nSEED = int(pathlib.Path({str(path)!r}).read_text())\n"
    found = []
    for seed in ("1", "2"):
        path.write_text(seed, encoding="utf-8")
        name = write(tmp_path / "d.py", imports=code).replace("SEED", "SEED")
        text = Path(name).read_text(encoding="utf-8").replace("manual_seed(0)", "manual_seed(SEED)")
        Path(name).write_text(text, encoding="utf-8")
        found.append(load_encoder(name).fingerprint)
    assert found[0] != found[1]


def test_files_beside_it_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "beside_xares_toy.py").write_text("X = 1\n", encoding="utf-8")
    load_encoder(write(tmp_path / "enc.py", imports="from beside_xares_toy import X\n"))


@pytest.mark.parametrize(
    ("imports", "result", "text"),
    [
        ("class OtherEncoder: pass\n", RESULT, "exactly one name ending in Encoder, found OtherEncoder, ToyEncoder"),
        ("import no_such_module_anywhere\n", RESULT, "expected a file that can be imported, found ModuleNotFoundError"),
    ],
)
def test_faults_of_the_file(tmp_path: Path, imports: str, result: str, text: str) -> None:
    with pytest.raises(EncoderError, match=text):
        load_encoder(write(tmp_path / "enc.py", imports=imports, result=result))


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("frames[0]", r"expected \[1, T, 8\] for a batch \[1, 8000\] at 16000 Hz, found \[12, 8\]"),
        ("frames.mT", r"found \[1, 8, 12\]; check the order of the axes"),
        ("frames[:, :0]", "expected at least one frame"),
        ("frames / 0", "found NaN or infinite ones"),
        ("frames.tolist()", "expected a tensor for a batch .*, found list"),
        ("frames @ frames", r"expected frames for a batch \[1, 8000\] at 16000 Hz, found RuntimeError"),
    ],
)
def test_faults_of_the_frames(tmp_path: Path, result: str, text: str) -> None:
    encoder = load_encoder(write(tmp_path / "enc.py", result=result))
    with pytest.raises(EncoderError, match=text):
        encoder.frames([tone(0.5, 300)])


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("ToyEncoder", "Toy", "expected exactly one name ending in Encoder, found none; name the class so"),
        ("(torch.nn.Module)", "", r"found TypeError|found AttributeError"),
        ("def __init__(self):", "def __init__(self, size):", r"expected ToyEncoder\(\) to make an encoder without"),
        ("self.output_dim = 8", "pass", "expected ToyEncoder to have an attribute output_dim, found none"),
        ("self.output_dim = 8", "self.output_dim = 8.0", "output_dim to be a whole number above 0, found 8.0"),
        ("self.hop_size_in_ms = 40", "self.hop_size_in_ms = 0", "hop_size_in_ms to be a number above 0, found 0"),
    ],
)
def test_faults_of_the_class(tmp_path: Path, old: str, new: str, text: str) -> None:
    name = write(tmp_path / "enc.py")
    Path(name).write_text(Path(name).read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(EncoderError, match=text):
        load_encoder(name)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"expected a Python file at .*nowhere.py, found none"):
        load_encoder(str(tmp_path / "nowhere.py"))


def test_no_module_of_torch(tmp_path: Path) -> None:
    (tmp_path / "enc.py").write_text("class ToyEncoder: pass\n", encoding="utf-8")
    with pytest.raises(EncoderError, match=r"to be a torch.nn.Module, found ToyEncoder"):
        load_encoder(str(tmp_path / "enc.py"))


def test_precision_is_the_file_s_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="precision"):
        load_encoder(write(tmp_path / "enc.py"), precision="bf16")


def test_no_gradient_is_kept(tmp_path: Path) -> None:
    encoder = load_encoder(write(tmp_path / "enc.py", result=RESULT + " * torch.is_inference_mode_enabled()"))
    assert np.abs(encoder.frames([tone(0.5, 300)])[0]).max() > 0
    assert not torch.is_inference_mode_enabled()
