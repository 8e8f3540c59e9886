"""The frozen decoder against Hugging Face's own loss: one example at a time, no packing, all logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny import CHAT_TEMPLATE, randomise, tiny_lm, tiny_tokenizer
from uniwhisper.errors import WeightsError
from uniwhisper.model.decoder import Decoder, Turn, load_decoder
from uniwhisper.model.execution import ExecutionConfig
from uniwhisper.model.packing import Packed, Segments

KINDS = ("llama", "qwen2", "qwen3", "gpt2")
TEXTS = (("What is heard?", "the dog"), ("Say it.", "go on and on"), ("", ""), ("Transcribe the clip", " the end"))
LENGTHS = (5, 2, 1, 9)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each kind once; llama has no pad token and no chat template, gpt2 no template, qwen3 both."""
    root = tmp_path_factory.mktemp("lm")
    options: dict[str, dict[str, Any]] = {
        "llama": {"pad": False},
        "qwen2": {},
        "qwen3": {"chat": True},
        "gpt2": {"pad": True},
        "llama-chat": {"chat": True, "pad": False},
    }
    return {name: tiny_lm(root / name, kind=name.partition("-")[0], **extra) for name, extra in options.items()}


@pytest.fixture(scope="module", params=[*KINDS, "llama-chat"])
def pair(request: pytest.FixtureRequest, folders: dict[str, Path]) -> tuple[Decoder, Any]:
    """Our decoder and an untouched copy of the same LM."""
    folder = folders[request.param]
    stock = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    return load_decoder(folder), stock.eval()


def audio(decoder: Decoder, lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> Packed:
    generator = torch.Generator().manual_seed(seed)
    return Packed(values=torch.randn(sum(lengths), decoder.width, generator=generator) * 0.3, lengths=lengths)


def stock_loss(stock: Any, decoder: Decoder, clip: Tensor, turn: Turn) -> Tensor:
    """Return HF's mean loss of one example, from embeddings and labels."""
    embed = stock.get_input_embeddings()
    opening, prompt, answer = (
        torch.tensor(part, dtype=torch.long) for part in (decoder.dialogue.opening, turn.prompt, turn.answer)
    )
    inputs = torch.cat([embed(opening), clip, embed(prompt), embed(answer)])
    labels = torch.full((len(inputs),), -100)
    labels[len(inputs) - len(answer) :] = answer
    return stock(inputs_embeds=inputs[None], labels=labels[None]).loss


def test_packed_loss_is_hugging_faces_loss_of_each_example(pair: tuple[Decoder, Any]) -> None:
    decoder, stock = pair
    turns = [decoder.turn(*text) for text in TEXTS]
    packed = audio(decoder)
    with torch.no_grad():
        losses = decoder.answer_losses(packed, turns)
        assert losses.dtype == torch.float32
        assert len(losses) == sum(len(turn.answer) for turn in turns)
        found = [part.mean() for part in losses.split([len(turn.answer) for turn in turns])]
        expected = [stock_loss(stock, decoder, *one) for one in zip(packed.split(), turns, strict=True)]
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), atol=1e-5, rtol=0)
    assert torch.stack(expected).std() > 0.01  # examples that differ, or mixing them up would not show


def test_mixed_batch_equals_solo(pair: tuple[Decoder, Any]) -> None:
    decoder, _ = pair
    turns = [decoder.turn(*text) for text in TEXTS]
    packed = audio(decoder)
    with torch.no_grad():
        mixed = decoder.answer_losses(packed, turns).split([len(turn.answer) for turn in turns])
        for number, (clip, turn) in enumerate(zip(packed.split(), turns, strict=True)):
            solo = decoder.answer_losses(Packed(values=clip, lengths=(len(clip),)), [turn])
            torch.testing.assert_close(solo, mixed[number], atol=1e-5, rtol=0)


def test_gradient_to_the_audio_is_hugging_faces(pair: tuple[Decoder, Any]) -> None:
    decoder, stock = pair
    turns = [decoder.turn(*text) for text in TEXTS]
    packed = audio(decoder)
    ours, theirs = packed.values.clone().requires_grad_(), packed.values.clone().requires_grad_()
    decoder.answer_losses(Packed(values=ours, lengths=LENGTHS), turns).sum().backward()
    for clip, turn in zip(theirs.split(list(LENGTHS)), turns, strict=True):
        (stock_loss(stock, decoder, clip, turn) * len(turn.answer)).backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)
    assert all(parameter.grad is None for parameter in decoder.parameters())


def test_order_is_opening_audio_prompt_answer(pair: tuple[Decoder, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, stock = pair
    turns, packed = [decoder.turn(*text) for text in TEXTS[:2]], audio(decoder, (3, 2))
    seen: list[tuple[Tensor, Segments]] = []
    monkeypatch.setattr(decoder, "_states", lambda inputs, segments: seen.append((inputs, segments)) or inputs)
    embed, expected = stock.get_input_embeddings(), []
    with torch.no_grad():
        decoder.answer_losses(packed, turns)
        for clip, turn in zip(packed.split(), turns, strict=True):
            text = (*turn.prompt, *turn.answer[:-1])  # the last answer token is predicted and never read
            opening = torch.tensor(decoder.dialogue.opening, dtype=torch.long)
            expected.append(torch.cat([embed(opening), clip, embed(torch.tensor(text))]))
    assert len(seen) == 1
    assert torch.equal(seen[0][0], torch.cat(expected))
    assert seen[0][1].lengths == tuple(len(part) for part in expected)


def test_loss_is_on_answer_tokens_alone(pair: tuple[Decoder, Any]) -> None:
    decoder, _ = pair
    turns = [decoder.turn(*text) for text in TEXTS]
    with torch.no_grad():
        states, targets = decoder.hidden(audio(decoder), turns)
    assert targets.tolist() == [token for turn in turns for token in turn.answer]
    assert states.shape == (len(targets), decoder.width)


def test_prompt_and_answer_are_tokenised_separately(folders: dict[str, Path]) -> None:
    decoder = load_decoder(folders["llama"])
    turn = decoder.turn("what", "he said")  # "the" is one token where the two texts are joined first
    assert turn.prompt == decoder.encode("what")
    assert turn.answer == (*decoder.encode("he said"), decoder.tokenizer.eos_token_id)
    assert turn.prompt + turn.answer[:-1] != decoder.encode("whathe said")


def test_chat_template_is_put_around_audio_and_answer(folders: dict[str, Path]) -> None:
    decoder = load_decoder(folders["qwen3"])
    text = decoder.tokenizer.decode
    assert text(decoder.dialogue.opening) == "<|im_start|>user\n"
    assert text(decoder.dialogue.middle) == "<|im_end|>\n<|im_start|>assistant\n"
    assert text(decoder.dialogue.closing) == "<|im_end|>"
    turn = decoder.turn("Say it.", "dog")
    assert text(turn.prompt) == "Say it.<|im_end|>\n<|im_start|>assistant\n"
    assert text(turn.answer) == "dog<|im_end|>"


def test_base_model_has_no_dialogue_and_learns_to_end(folders: dict[str, Path]) -> None:
    decoder = load_decoder(folders["llama"])
    assert decoder.tokenizer.pad_token is None
    assert decoder.dialogue.opening == decoder.dialogue.middle == ()
    assert decoder.dialogue.closing == (decoder.tokenizer.eos_token_id,)


def test_decoder_is_frozen_and_stays_in_eval_mode(pair: tuple[Decoder, Any]) -> None:
    decoder, _ = pair
    holder = torch.nn.ModuleList([decoder])
    holder.train()
    assert not any(module.training for module in decoder.modules())
    assert not any(parameter.requires_grad for parameter in decoder.parameters())


def test_generate_is_greedy_decoding(pair: tuple[Decoder, Any]) -> None:
    decoder, stock = pair
    clip, embed = audio(decoder, (4,)), stock.get_input_embeddings()
    stop = {decoder.tokenizer.eos_token_id, *decoder.dialogue.closing}
    with torch.no_grad():
        opening = torch.tensor(decoder.dialogue.opening, dtype=torch.long)
        inputs = torch.cat([embed(opening), clip.values, embed(torch.tensor(decoder.turn("Go", "").prompt))])
        tokens: list[int] = []
        while len(tokens) < 5:
            token = int(stock(inputs_embeds=inputs[None]).logits[0, -1].argmax())
            if token in stop:
                break
            tokens.append(token)
            inputs = torch.cat([inputs, embed(torch.tensor([token]))])
    assert decoder.generate(clip, "Go", max_new_tokens=5) == decoder.tokenizer.decode(tokens)


def test_folder_without_a_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="expected a causal LM with tokenizer in"):
        load_decoder(tmp_path)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_fast_path_computes_what_transformers_computes(folders: dict[str, Path], kind: str) -> None:
    decoder = load_decoder(folders[kind])
    turns, values = [decoder.turn(*text) for text in TEXTS], audio(decoder).values
    assert decoder._fast is not None

    def run() -> tuple[Tensor, Tensor | None]:
        inputs = values.clone().requires_grad_()
        losses = decoder.answer_losses(Packed(values=inputs, lengths=LENGTHS), turns)
        losses.mean().backward()
        return losses.detach(), inputs.grad

    fast = run()
    decoder._fast = None
    losses, grad = run()
    torch.testing.assert_close(fast[0], losses, atol=1e-5, rtol=0)
    torch.testing.assert_close(fast[1], grad, atol=1e-6, rtol=1e-4)


def test_fast_path_stores_no_weight_twice(folders: dict[str, Path]) -> None:
    decoder = load_decoder(folders["qwen2"])
    stock = AutoModelForCausalLM.from_pretrained(folders["qwen2"]).state_dict()
    ours = decoder.lm.state_dict()
    assert all(torch.equal(ours[name], stock[name]) for name in stock)
    assert decoder._fast is not None
    lm: Any = decoder.lm
    joined: Any = decoder._fast.layers[0]
    layer = lm.base_model.layers[0]
    for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
        assert projection.weight.untyped_storage().data_ptr() == joined.qkv.untyped_storage().data_ptr()
    assert layer.mlp.up_proj.weight.untyped_storage().data_ptr() == joined.gate_up.untyped_storage().data_ptr()


def test_gpt2_goes_through_transformers(folders: dict[str, Path]) -> None:
    assert load_decoder(folders["gpt2"])._fast is None


def test_bfloat16_is_kept_and_losses_are_float32(folders: dict[str, Path]) -> None:
    decoder, exact = load_decoder(folders["llama"], dtype=torch.bfloat16), load_decoder(folders["llama"])
    assert {parameter.dtype for parameter in decoder.parameters()} == {torch.bfloat16}
    turns, packed = [decoder.turn(*text) for text in TEXTS], audio(decoder)
    with torch.no_grad():
        found, expected = decoder.answer_losses(packed, turns), exact.answer_losses(packed, turns)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.mean(), expected.mean(), atol=0.05, rtol=0)


ODD_ONES: dict[str, dict[str, Any]] = {
    "Gemma2": {"head_dim": 8},  # scaled embeddings, capped scores and logits
    "Granite": {"logits_scaling": 4.0, "embedding_multiplier": 2.0},
    "Mistral": {"sliding_window": 4},
    "Mamba": {},  # no attention: its state runs on from one sequence of a pack into the next
}


@pytest.mark.parametrize("name", sorted(ODD_ONES))
def test_an_lm_that_cannot_be_packed_exactly_is_refused(tmp_path: Path, name: str) -> None:
    tokenizer = tiny_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = getattr(transformers, f"{name}Config")(
        vocab_size=len(tokenizer), num_key_value_heads=2, **sizes, **ids, **ODD_ONES[name]
    )
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    randomise(model, 3)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(WeightsError):
        load_decoder(tmp_path)


REFUSALS = {
    "system": "messages[0]['role'] == 'system'",
    "no user": "not messages | selectattr('role', 'equalto', 'user') | list",
}


@pytest.mark.parametrize("refused", sorted(REFUSALS))
def test_chat_template_that_refuses_a_system_turn_serves(tmp_path: Path, refused: str) -> None:
    folder = tiny_lm(tmp_path, chat=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    check = "{% if " + REFUSALS[refused] + " %}{{ raise_exception('refused') }}{% endif %}"
    tokenizer.chat_template = check + CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    decoder = load_decoder(folder)
    assert tokenizer.decode(decoder.dialogue.opening).endswith("<|im_start|>user\n")
    assert tokenizer.decode(decoder.dialogue.middle) == "<|im_end|>\n<|im_start|>assistant\n"


def test_lm_without_pad_token_reads_padded_batches_too(folders: dict[str, Path]) -> None:
    decoder = load_decoder(folders["llama"])
    assert decoder.tokenizer.pad_token_id is None
    assert decoder.lm.config.pad_token_id is None  # pyright: ignore[reportAttributeAccessIssue]
    turns = [decoder.turn(*text) for text in TEXTS]
    packed = decoder.answer_losses(audio(decoder), turns)
    decoder.execution = ExecutionConfig(decoder="padded")
    torch.testing.assert_close(decoder.answer_losses(audio(decoder), turns), packed, rtol=1e-5, atol=1e-6)


def test_lm_of_a_tokenizer_that_splits_control_tags_learns_the_answer_alone(pair: tuple[Decoder, Any]) -> None:
    decoder, stock = pair
    tags, answer = "<|startofanalysis|><|en|><|sound|>", "the dog"
    assert len(decoder.encode("<|sound|>")) > 1  # no tag is one token of any LM that was not trained with it
    turn = decoder.turn(tags + "What is heard?", answer)
    assert decoder.tokenizer.decode(turn.prompt).startswith(tags)
    packed = audio(decoder, (5,))
    with torch.no_grad():
        states, targets = decoder.hidden(packed, [turn])
        losses = decoder.answer_losses(packed, [turn])
        assert targets.tolist() == [*decoder.encode(answer), *decoder.dialogue.closing]
        assert len(states) == len(targets)
        torch.testing.assert_close(losses.mean(), stock_loss(stock, decoder, packed.values, turn), atol=1e-5, rtol=0)


def test_vocabulary_may_be_larger_than_the_tokenizer(tmp_path: Path, folders: dict[str, Path]) -> None:
    lm = AutoModelForCausalLM.from_pretrained(folders["qwen3"], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folders["qwen3"])
    lm.resize_token_embeddings(len(tokenizer) + 61, mean_resizing=False)
    lm.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    decoder = load_decoder(tmp_path)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager", dtype=torch.float32).eval()
    assert len(decoder.embedding) == len(tokenizer) + 61
    turn, packed = decoder.turn(*TEXTS[0]), audio(decoder, (5,))
    with torch.no_grad():
        expected = stock_loss(stock, decoder, packed.values, turn)
        for chunk in (0, 2):
            decoder.execution = ExecutionConfig(loss_chunk=chunk)
            torch.testing.assert_close(decoder.answer_losses(packed, [turn]).mean(), expected, atol=1e-5, rtol=0)


def test_padded_batch_has_the_packed_losses_and_gradient(pair: tuple[Decoder, Any]) -> None:
    decoder, _ = pair
    turns = [decoder.turn(*text) for text in TEXTS]

    def run() -> tuple[Tensor, Tensor]:
        values = audio(decoder).values.requires_grad_()
        losses = decoder.answer_losses(Packed(values=values, lengths=LENGTHS), turns)
        return losses.detach(), torch.autograd.grad(losses.mean(), values)[0]

    before, expected = decoder.execution, run()
    try:
        decoder.execution = ExecutionConfig(decoder="padded", logits="all")
        found = run()
    finally:
        decoder.execution = before
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-6)


def test_bf16_leaves_the_frequencies_of_positions_as_they_were(tmp_path: Path) -> None:
    folder = tiny_lm(tmp_path / "lm")
    exact, rounded = (load_decoder(folder, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    found = dict(rounded.lm.named_buffers())
    frequencies = {name: buffer for name, buffer in exact.lm.named_buffers() if name.endswith("inv_freq")}
    assert frequencies
    for name, buffer in frequencies.items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], buffer)
    assert rounded.embedding.dtype == torch.bfloat16
