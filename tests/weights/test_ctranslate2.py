from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from uniwhisper.errors import WeightsError
from uniwhisper.weights.ctranslate2 import read_whisper_ctranslate2

Writer = Callable[..., bytes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.bin"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_tensor_comes_back_bit_for_bit(
    path: Path, ctranslate2_bytes: Writer, whisper_state: dict[str, Tensor], dtype: torch.dtype
) -> None:
    path.write_bytes(ctranslate2_bytes(dtype=dtype))

    state = read_whisper_ctranslate2(path)

    assert set(state) == set(whisper_state)
    assert all(torch.equal(state[name].float(), whisper_state[name]) for name in state)
    assert {tensor.dtype for tensor in state.values()} == {dtype}


def test_bfloat16_is_read(path: Path, ctranslate2_bytes: Writer, whisper_state: dict[str, Tensor]) -> None:
    path.write_bytes(ctranslate2_bytes(dtype=torch.bfloat16))

    name = "model.decoder.layers.1.encoder_attn.v_proj.weight"
    assert torch.equal(read_whisper_ctranslate2(path)[name], whisper_state[name].bfloat16())


def test_every_truncation_is_refused_with_its_offset(path: Path, ctranslate2_bytes: Writer) -> None:
    content = ctranslate2_bytes()
    for length in (*range(1, 60), *range(100, len(content), 997), len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"at byte \d+, found"):
            read_whisper_ctranslate2(path)


def test_an_empty_file_is_refused(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match="empty file"):
        read_whisper_ctranslate2(path)


def test_bytes_after_the_end_are_refused(path: Path, ctranslate2_bytes: Writer) -> None:
    path.write_bytes(ctranslate2_bytes() + b"xyz")
    with pytest.raises(WeightsError, match="3 more bytes"):
        read_whisper_ctranslate2(path)


def test_another_version_is_refused(path: Path, ctranslate2_bytes: Writer) -> None:
    path.write_bytes(ctranslate2_bytes(version=5))
    with pytest.raises(WeightsError, match="version 6 at byte 0, found 5"):
        read_whisper_ctranslate2(path)


def test_quantised_weights_are_refused(path: Path, ctranslate2_bytes: Writer) -> None:
    def quantise(variables: dict[str, Tensor]) -> None:
        variables["encoder/conv1/weight"] = variables["encoder/conv1/weight"].to(torch.int8)

    path.write_bytes(ctranslate2_bytes(quantise))
    with pytest.raises(WeightsError, match=r"encoder/conv1/weight as torch\.int8"):
        read_whisper_ctranslate2(path)


def test_a_bias_on_the_keys_is_refused(path: Path, ctranslate2_bytes: Writer) -> None:
    def bias(variables: dict[str, Tensor]) -> None:
        variables["encoder/layer_0/self_attention/linear_0/bias"] += 1

    path.write_bytes(ctranslate2_bytes(bias))
    with pytest.raises(WeightsError, match="no bias on the keys"):
        read_whisper_ctranslate2(path)


def test_another_models_variable_is_refused(path: Path, ctranslate2_bytes: Writer) -> None:
    path.write_bytes(ctranslate2_bytes(lambda variables: variables.update({"encoder/pooler/weight": torch.ones(2)})))
    with pytest.raises(WeightsError, match="encoder/pooler/weight"):
        read_whisper_ctranslate2(path)
