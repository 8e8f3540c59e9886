from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from uniwhisper.errors import WeightsError
from uniwhisper.weights import resolve
from uniwhisper.weights.gguf import read_gguf

gguf = pytest.importorskip("gguf")

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
}
LETTERS = [chr(i) for i in range(ord("a"), ord("z") + 1)]
TOKENS = ["<|end|>", "<|im_start|>", "<|im_end|>", *LETTERS, "\u0120", "\u0120t", "he", "\u0120the", "1", "2"]


def model_of(architecture: str, *, tied: bool) -> LlamaForCausalLM | Qwen2ForCausalLM:
    torch.manual_seed(3)
    if architecture == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied))
    return Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=tied))


def permute(values: Tensor, num_heads: int) -> Tensor:
    """Return q or k rows as llama.cpp stores them: halves interleaved."""
    half = values.shape[0] // num_heads // 2
    return values.reshape(num_heads, 2, half, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def gguf_name(name: str) -> str:
    parts = {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
    }
    name = name.replace("model.layers.", "blk.")
    for old, new in parts.items():
        name = name.replace(old, new)
    return name


def write_gguf(path: Path, architecture: str, state: dict[str, Tensor], quantised: str = "") -> None:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm" if architecture == "llama" else "qwen2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3] + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(["\u0120 t", "h e", "\u0120t he"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}")
    for name, tensor in state.items():
        array = tensor.float().numpy()
        new = gguf_name(name)
        if new == quantised:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(new, gguf.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(new, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def stored(architecture: str, *, tied: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a model's state and the same as llama.cpp stores it."""
    state = {k: v for k, v in model_of(architecture, tied=tied).state_dict().items() if not (tied and "lm_head" in k)}
    if architecture != "llama":
        return state, state
    heads = {".q_proj.": 4, ".k_proj.": 2}
    changed = {k: permute(v, n) for k, v in state.items() for part, n in heads.items() if part in k}
    return state, {**state, **changed}


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("tied", [True, False])
def test_every_tensor_comes_back(tmp_path: Path, architecture: str, tied: bool) -> None:
    state, written = stored(architecture, tied=tied)
    write_gguf(tmp_path / "m.gguf", architecture, written)

    model = read_gguf(tmp_path / "m.gguf")

    assert set(model.state) == set(state)
    assert all(torch.equal(model.state[name], state[name].bfloat16()) for name in state)
    assert model.config["tie_word_embeddings"] is tied
    assert model.config["model_type"] == architecture


def test_an_output_that_is_the_embedding_again_serves_as_both(tmp_path: Path) -> None:
    state, written = stored("qwen2", tied=True)
    written = {**written, "lm_head.weight": state["model.embed_tokens.weight"]}
    write_gguf(tmp_path / "m.gguf", "qwen2", written, quantised="token_embd.weight")

    model = read_gguf(tmp_path / "m.gguf")

    assert model.config["tie_word_embeddings"] is True
    assert "lm_head.weight" not in model.state
    # the output was stored in f32, the embedding in 8 bits: the finer one is kept
    assert torch.equal(model.state["model.embed_tokens.weight"], state["model.embed_tokens.weight"].bfloat16())


def test_transformers_loads_model_and_tokenizer_and_computes_the_same(tmp_path: Path) -> None:
    _, written = stored("llama", tied=True)
    write_gguf(tmp_path / "m.gguf", "llama", written)

    folder = resolve(tmp_path / "m.gguf")
    loaded = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    ids = tokenizer("<|im_start|>ab the12", return_tensors="pt").input_ids
    assert tokenizer.convert_ids_to_tokens(ids[0]) == ["<|im_start|>", "a", "b", "\u0120the", "1", "2"]
    assert tokenizer.decode(ids[0]) == "<|im_start|>ab the12"
    assert tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False).endswith("a<|im_end|>")
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    reference = model_of("llama", tied=True).bfloat16().float()
    torch.testing.assert_close(loaded(ids).logits, reference(ids).logits, atol=1e-5, rtol=0)


def test_truncations_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_gguf(path, "llama", stored("llama", tied=True)[1])
    content = path.read_bytes()
    for length in (5, 30, 500, 2000, len(content) // 2, len(content) - 40):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=f"before byte {length}"):
            read_gguf(path)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", "gemma", stored("qwen2", tied=True)[1])
    with pytest.raises(WeightsError, match="llama or qwen2, found 'gemma'"):
        read_gguf(tmp_path / "m.gguf")


def test_an_unknown_tensor_is_refused(tmp_path: Path) -> None:
    state = {**stored("llama", tied=True)[1], "model.layers.0.router.weight": torch.zeros(2, 32)}
    write_gguf(tmp_path / "m.gguf", "llama", state)
    with pytest.raises(WeightsError, match="router"):
        read_gguf(tmp_path / "m.gguf")
