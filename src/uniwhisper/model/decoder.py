"""The frozen language model: turns packed audio inputs, prompts and answers into the next-token loss.

Any Hugging Face causal LM serves. It is loaded once, never gets a gradient or optimiser state and stays in eval mode;
gradients only pass *through* it to the audio inputs. Sequences are packed (no padding) with positions that restart,
and logits are computed at answer positions alone.

Shape letters: `P` packed audio inputs, `L` packed decoder positions, `Q` decoder width, `V` vocabulary, `N` answer
tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from uniwhisper.errors import WeightsError
from uniwhisper.model.llama import PackedLlama, supports
from uniwhisper.model.packing import Packed, segment_attention

__all__ = ["Decoder", "Dialogue", "Turn", "load_decoder"]

_ATTENTION = "uniwhisper_packed"
_PACKING_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """Token ids of one example; prompt and answer are tokenised apart, so the loss boundary is exact."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialogue:
    """Token ids that the decoder's chat template puts around an example; a base model has only a closing token."""

    opening: tuple[int, ...]
    """Before the audio: the start of the user's turn."""
    middle: tuple[int, ...]
    """Between prompt and answer: the end of the user's turn and the start of the answer."""
    closing: tuple[int, ...]
    """After the answer: the token that ends it, which is learnt too."""


class Decoder(nn.Module):
    """A frozen causal LM that reads `[audio Z][prompt u][answer v]` (the paper's equation 2)."""

    def __init__(self, lm: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        _register_attention()
        lm.set_attn_implementation(_ATTENTION)  # type: ignore[operator]
        lm.requires_grad_(False)
        self.lm = lm.eval()
        self._fast = PackedLlama(lm) if supports(lm) else None
        self.tokenizer = tokenizer
        self.dialogue = _dialogue(tokenizer)

    @property
    def width(self) -> int:
        """Return the width of the decoder's input embeddings."""
        return self.embedding.shape[1]

    @property
    def embedding(self) -> Float[Tensor, "V Q"]:
        """Return the frozen input embedding matrix."""
        return self.lm.get_input_embeddings().weight  # type: ignore[operator]

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode whatever the caller asks: dropout in a frozen model would only add noise."""
        return super().train(False)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the token ids of `text`, without special tokens."""
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def turn(self, prompt: str, answer: str) -> Turn:
        """Return the ids of prompt and answer, tokenised separately and wrapped in the chat template."""
        return Turn(
            prompt=self.encode(prompt) + self.dialogue.middle, answer=self.encode(answer) + self.dialogue.closing
        )

    def hidden(self, audio: Packed, turns: Sequence[Turn]) -> tuple[Float[Tensor, "N Q"], Tensor]:
        """Return the last hidden states that predict the answer tokens of every example, and those tokens.

        Args:
            audio: Decoder inputs of each clip, from the adapter.
            turns: One a clip, in the same order.
        """
        embedding = self.embedding
        device = embedding.device
        opening = self.dialogue.opening
        ids, lengths, rows, targets, audio_rows, start = [], [], [], [], [], 0
        for length, turn in zip(audio.lengths, turns, strict=True):
            text = turn.prompt + turn.answer
            ids.extend((*opening, *[0] * length, *text[:-1]))
            total = len(opening) + length + len(text) - 1
            first = start + total - len(turn.answer)
            rows.extend(range(first, start + total))
            audio_rows.extend(range(start + len(opening), start + len(opening) + length))
            targets.extend(turn.answer)
            lengths.append(total)
            start += total
        inputs = self.lm.get_input_embeddings()(torch.tensor(ids, device=device))  # type: ignore[operator]
        inputs = inputs.index_put((torch.tensor(audio_rows, device=device),), audio.values.to(inputs.dtype))
        states = self.states(inputs, lengths)
        return states[torch.tensor(rows, device=device)], torch.tensor(targets, device=device)

    def states(self, inputs: Float[Tensor, "L Q"], lengths: Sequence[int]) -> Float[Tensor, "L Q"]:
        """Return the final hidden states of packed sequences, each with positions from 0 and blind to the others."""
        if self._fast is not None:
            return self._fast(inputs, lengths)
        positions = torch.cat([torch.arange(n, device=inputs.device) for n in lengths])
        base: Any = self.lm.base_model
        return base(
            inputs_embeds=inputs[None], position_ids=positions[None], use_cache=False, segment_lengths=tuple(lengths)
        ).last_hidden_state[0]

    def answer_losses(self, audio: Packed, turns: Sequence[Turn]) -> Float[Tensor, " N"]:
        """Return the next-token loss of every answer token (the paper's equation 3), in float32, packed by example."""
        states, targets = self.hidden(audio, turns)
        logits = self.lm.get_output_embeddings()(states)  # type: ignore[operator]
        return functional.cross_entropy(logits.float(), targets, reduction="none")

    @torch.no_grad()
    def generate(self, audio: Packed, prompt: str, *, max_new_tokens: int = 64) -> str:
        """Return the greedy answer for one clip; a check of what was learnt, not a fast decoder.

        Each step recomputes the whole sequence, so keep `max_new_tokens` small.
        """
        prompt_ids = self.turn(prompt, "").prompt
        stop = set(self.dialogue.closing[:1]) | {self.tokenizer.eos_token_id}
        answer: list[int] = []
        for _ in range(max_new_tokens):
            # The last id is a placeholder: `hidden` predicts every answer token from what stands before it.
            states, _ = self.hidden(audio, [Turn(prompt=prompt_ids, answer=(*answer, 0))])
            token = int(self.lm.get_output_embeddings()(states[-1:]).argmax())  # type: ignore[operator]
            if token in stop:
                break
            answer.append(token)
        return self.tokenizer.decode(answer)


def load_decoder(folder: Path, *, dtype: torch.dtype = torch.float32) -> Decoder:
    """Return the frozen LM stored in a hub-layout folder.

    Raises:
        WeightsError: transformers cannot load the folder as a causal LM, or its packed outputs are not its own: some
            architectures mix the sequences of a pack or change the logits after the head.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        lm: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as e:
        raise WeightsError(f"expected a causal LM with tokenizer in {folder} (hub layout), found: {e}") from e
    decoder = _checked(lm, tokenizer, folder)
    return decoder if dtype == torch.float32 else Decoder(lm.to(dtype), tokenizer)


@torch.no_grad()
def _checked(lm: Any, tokenizer: Any, folder: Path) -> Decoder:
    """Return the decoder of a float32 `lm` after comparing two packed sequences with the LM's own logits.

    In float32, because bfloat16 rounding alone can change the logits of a meaningless sequence by a third.
    """
    ids = [torch.arange(3, 3 + length) % lm.config.get_text_config().vocab_size for length in (9, 5)]
    expected = torch.cat([lm(input_ids=row[None], use_cache=False).logits[0] for row in ids])
    decoder = Decoder(lm, tokenizer)
    inputs = lm.get_input_embeddings()(torch.cat(ids))
    found = lm.get_output_embeddings()(decoder.states(inputs, [len(row) for row in ids]))
    error = float((found - expected).norm() / expected.norm())
    if not error < _PACKING_TOLERANCE:
        raise WeightsError(
            f"{folder}: expected an LM that can be packed exactly, found that packing changes the logits of "
            f"{lm.config.model_type!r} by {error:.1%}. Use a Llama, Qwen2, Qwen3, GPT-2, OLMo or Phi model"
        )
    return decoder


def _register_attention() -> None:
    """Teach transformers an attention that keeps packed sequences apart; registering twice is harmless."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(_ATTENTION, _packed_attention)
    AttentionMaskInterface.register(_ATTENTION, _no_mask)


def _packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attend causally within each sequence of the pack; shapes as transformers' attention interface has them."""
    lengths = kwargs.get("segment_lengths")
    window = kwargs.get("sliding_window")
    if lengths is None or kwargs.get("softcap") is not None or (window is not None and window < max(lengths)):
        raise WeightsError(
            f"expected plain causal attention over whole sequences, found {type(module).__name__} with "
            f"softcap {kwargs.get('softcap')}, sliding window {window}, segments {lengths}. "
            "Use a Llama, Qwen2, Qwen3, GPT-2, OLMo or Phi model as decoder"
        )
    output = segment_attention(query[0], key[0], value[0], lengths, causal=True, scale=kwargs.get("scaling"))
    return output.transpose(0, 1)[None], None


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """Return no mask: `segment_lengths` say everything."""


def _dialogue(tokenizer: Any) -> Dialogue:
    """Return the ids that the tokenizer's own chat template puts around a user's turn and an answer.

    The system turn is left out: it would cost tokens in every example and says nothing about audio.
    """

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    if not getattr(tokenizer, "chat_template", None):
        end = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
        return Dialogue(opening=(), middle=(), closing=end)
    mark, reply = "<<prompt>>", "<<answer>>"
    system, before = _system_turn(tokenizer)
    asked_turns = [*system, {"role": "user", "content": mark}]
    asked = tokenizer.apply_chat_template(asked_turns, tokenize=False, add_generation_prompt=True)
    full = tokenizer.apply_chat_template([*asked_turns, {"role": "assistant", "content": reply}], tokenize=False)
    opening, middle = asked.removeprefix(before).split(mark)
    closing = full.split(reply)[1]
    closing_ids = ids(closing)[:1] if closing else ()
    return Dialogue(opening=ids(opening), middle=ids(middle), closing=closing_ids or (tokenizer.eos_token_id,))


def _system_turn(tokenizer: Any) -> tuple[list[dict[str, str]], str]:
    """Return a system turn and its text, to be cut off again; nothing where the template refuses system turns.

    Templates that know system turns add one of their own where none is given, so one must be given to be removed.
    """
    from jinja2 import TemplateError

    turn = [{"role": "system", "content": "S"}]
    try:
        return turn, tokenizer.apply_chat_template(turn, tokenize=False)
    except TemplateError:
        return [], ""
