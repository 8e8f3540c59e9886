from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny import tone
from uniwhisper.encoders import load_encoder, python_class
from uniwhisper.encoders._foreign import fingerprint_of
from uniwhisper.encoders.conformance import check_encoder
from uniwhisper.errors import ConfigError, EncoderError

MODULE = """import numpy as np
import torch


class Plain:
    sample_rate = 16000
    dim = 4
    hop_ms = 40.0
    trained_on = ("esc50",)

    def frames(self, waves):
        return [self.one(wave) for wave in waves]

    def one(self, wave):
        count = max(1, len(wave) // 640)
        padded = np.pad(wave, (0, max(0, count * 640 - len(wave))))[: count * 640]
        return np.abs(np.fft.rfft(padded.reshape(count, 640)))[:, 1:5].astype(np.float32)


class Full(Plain):
    name = "mine"
    fingerprint = "f" * 64


class Torch(torch.nn.Module, Plain):
    seed = 0
    dim = 2

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 2, bias=False)
        self.dropout = torch.nn.Dropout(0.5)
        torch.nn.init.constant_(self.linear.weight, self.seed + 1.0)

    @torch.no_grad()
    def one(self, wave):
        return self.dropout(self.linear(torch.from_numpy(Plain.one(self, wave)))).numpy()


class Other(Torch):
    seed = 1


class Half:
    dim = 4


class Greedy(Plain):
    def __init__(self, size):
        self.size = size


def make():
    return Full()


number = 7
"""
NUMBERS = itertools.count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the current folder, which is not on Python's path."""
    monkeypatch.chdir(tmp_path)
    name = f"class_toy_{next(NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    return name


def test_missing_name_and_fingerprint_are_filled_in(module: str) -> None:
    encoder = load_encoder(f"{module}:Plain")
    assert encoder.name == f"{module}:Plain"
    assert len(encoder.fingerprint) == 64
    assert getattr(encoder, "trained_on") == ("esc50",)  # noqa: B009
    findings = check_encoder(encoder, long_clip=False)
    assert findings[0].state == "note"
    assert "made from the source file alone" in findings[0].text
    assert {finding.state for finding in findings[1:-1]} == {"ok"}, findings


def test_what_the_class_has_is_kept(module: str) -> None:
    for name in ("Full", "make"):
        encoder = load_encoder(f"{module}:{name}")
        assert (encoder.name, encoder.fingerprint) == ("mine", "f" * 64)
    assert check_encoder(encoder, long_clip=False)[0].state == "ok"


def test_a_torch_module_is_known_by_its_weights(module: str) -> None:
    first, again, other = (load_encoder(f"{module}:{name}") for name in ("Torch", "Torch", "Other"))
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint
    assert check_encoder(first, long_clip=False)[0].state == "ok"


def test_one_changed_weight_changes_the_fingerprint() -> None:
    layer = torch.nn.Linear(3, 2)
    first, missing = fingerprint_of(layer, "x")
    assert (first, missing) == fingerprint_of(layer, "x")
    assert missing == ""
    assert fingerprint_of(layer, "y")[0] != first
    with torch.no_grad():
        layer.weight[0, 0] += 1e-6
    assert fingerprint_of(layer, "x")[0] != first
    assert "source file alone" in fingerprint_of(object(), "x")[1]


def test_dropout_is_off(module: str) -> None:
    encoder = load_encoder(f"{module}:Torch")
    wave = tone(1.0, 300)
    np.testing.assert_array_equal(encoder.frames([wave])[0], encoder.frames([wave])[0])


def test_the_path_of_python_is_left_alone(module: str) -> None:
    before = list(sys.path)
    load_encoder(f"{module}:Full")
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("{module}:Half", "found no sample_rate, hop_ms, frames; see uniwhisper.Encoder"),
        ("{module}:Greedy", r"expected Greedy\(\) to make an encoder without arguments, found TypeError"),
        ("{module}:Missing", "expected a class Missing in {module}, found None"),
        ("{module}:number", "expected a class number in {module}, found 7"),
        ("no_such_package.part:Thing", "expected an importable module 'no_such_package.part'"),
    ],
)
def test_faults(module: str, name: str, text: str) -> None:
    with pytest.raises(EncoderError, match=text.format(module=module)):
        load_encoder(name.format(module=module))


def test_precision_is_the_class_s_own(module: str) -> None:
    with pytest.raises(ConfigError, match="precision"):
        load_encoder(f"{module}:Full", precision="bf16")


@pytest.mark.parametrize(
    ("name", "mine"),
    [("a:B", True), ("a.b.c:D", True), ("hear:mod", False), ("hear:mod#w", False), ("a.py", False), ("a/b:C", False)],
)
def test_claims(name: str, mine: bool) -> None:
    assert python_class.claims(name) is mine
