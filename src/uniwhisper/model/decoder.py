"""The frozen language model: turns packed audio inputs, prompts and answers into the next-token loss.

Any Hugging Face causal LM serves. It is loaded once, never gets a gradient or optimiser state and stays in eval mode;
gradients only pass *through* it to the audio inputs. Sequences are packed (no padding) with positions that restart,
and logits are computed at answer positions alone; `ExecutionConfig` can take back either, which changes no loss.

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

from uniwhisper.errors import WeightsError
from uniwhisper.model.execution import ExecutionConfig
from uniwhisper.model.llama import PackedLlama, supports
from uniwhisper.model.packing import Packed, Segments, on_device, positions_within, segment_attention, take_rows
from uniwhisper.model.token_loss import IGNORED, token_losses
from uniwhisper.model.turns import Dialogue, Turn, TurnMaker

__all__ = ["Decoder", "Dialogue", "Turn", "load_decoder"]

_ATTENTION = "uniwhisper_packed"
_PACKING_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Layout:
    """A batch as the decoder reads it, on its device."""

    ids: Tensor
    """Token of each row; anything where audio or padding stands."""
    audio_rows: Tensor
    answer_rows: Tensor
    """Rows whose states predict the answer tokens."""
    targets: Tensor
    """The answer tokens."""
    segments: Segments


class Decoder(nn.Module):
    """A frozen causal LM that reads `[audio Z][prompt u][answer v]` (the paper's equation 2)."""

    def __init__(self, lm: nn.Module, tokenizer: Any, execution: ExecutionConfig | None = None) -> None:
        super().__init__()
        self.execution = execution or ExecutionConfig()
        _register_attention()
        lm.set_attn_implementation(_ATTENTION)  # type: ignore[operator]
        lm.requires_grad_(False)
        self.lm = lm.eval()
        self._fast = PackedLlama(lm) if supports(lm) else None
        self.tokenizer = tokenizer
        self.dialogue = _dialogue(tokenizer)
        self.turn_maker = TurnMaker(tokenizer, self.dialogue)
        """Tokenises examples; worker processes get it without the LM."""

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
        return self.turn_maker.encode(text)

    def turn(self, prompt: str, answer: str) -> Turn:
        """Return the ids of prompt and answer, tokenised separately and wrapped in the chat template."""
        return self.turn_maker(prompt, answer)

    def hidden(self, audio: Packed, turns: Sequence[Turn]) -> tuple[Float[Tensor, "N Q"], Tensor]:
        """Return the last hidden states that predict the answer tokens of every example, and those tokens.

        Args:
            audio: Decoder inputs of each clip, from the adapter.
            turns: One a clip, in the same order.

        Raises:
            ConfigError: The attention kernel that was asked for cannot run on this device.
        """
        layout = self._layout(audio.lengths, turns)
        return take_rows(self._read(audio, layout), layout.answer_rows), layout.targets

    def states(self, inputs: Float[Tensor, "L Q"], lengths: Sequence[int]) -> Float[Tensor, "L Q"]:
        """Return the final hidden states of packed sequences, each with positions from 0 and blind to the others."""
        kernel = self.execution.attention
        return self._states(inputs, Segments.packed(lengths, device=inputs.device, kernel=kernel))

    def answer_losses(self, audio: Packed, turns: Sequence[Turn]) -> Float[Tensor, " N"]:
        """Return the next-token loss of every answer token (the paper's equation 3), in float32, packed by example.

        Raises:
            ConfigError: The attention kernel or the chunked loss that was asked for cannot run with this decoder.
        """
        head = self.lm.get_output_embeddings()  # type: ignore[operator]
        chunk = self.execution.loss_chunk
        layout = self._layout(audio.lengths, turns)
        states = self._read(audio, layout)
        if self.execution.logits == "answers":
            return token_losses(take_rows(states, layout.answer_rows), layout.targets, head, chunk=chunk)
        everywhere = torch.full((len(states),), IGNORED, device=states.device)
        everywhere.index_copy_(0, layout.answer_rows, layout.targets)
        return token_losses(states, everywhere, head, chunk=chunk).index_select(0, layout.answer_rows)

    def _layout(self, audio_lengths: Sequence[int], turns: Sequence[Turn]) -> _Layout:
        """Return where everything stands; padding, where it is wanted, follows each sequence."""
        opening = self.dialogue.opening
        texts = [turn.prompt + turn.answer for turn in turns]
        # The last answer token is predicted and never read.
        lengths = [len(opening) + n + len(text) - 1 for n, text in zip(audio_lengths, texts, strict=True)]
        padded = self.execution.decoder == "padded"
        sizes = [max(lengths)] * len(lengths) if padded else lengths
        ids: list[int] = []
        answer_rows: list[int] = []
        audio_rows: list[int] = []
        for n, turn, text, length, size in zip(audio_lengths, turns, texts, lengths, sizes, strict=True):
            end, first = len(ids) + length, len(ids) + len(opening)
            audio_rows.extend(range(first, first + n))
            answer_rows.extend(range(end - len(turn.answer), end))
            ids.extend((*opening, *[0] * n, *text[:-1], *[0] * (size - length)))
        device, kernel = self.embedding.device, self.execution.attention
        padding = Segments.padded(lengths, max(sizes), device=device, kernel=kernel) if padded else None
        return _Layout(
            ids=on_device(torch.tensor(ids), device),
            audio_rows=on_device(torch.tensor(audio_rows), device),
            answer_rows=on_device(torch.tensor(answer_rows), device),
            targets=on_device(torch.tensor([token for turn in turns for token in turn.answer]), device),
            segments=padding or Segments.packed(lengths, device=device, kernel=kernel),
        )

    def _read(self, audio: Packed, layout: _Layout) -> Tensor:
        """Return the final hidden states of every row of `layout`, padding included."""
        inputs = self.lm.get_input_embeddings()(layout.ids)  # type: ignore[operator]
        inputs = inputs.index_copy(0, layout.audio_rows, audio.values.to(inputs.dtype))
        return self._states(inputs, layout.segments)

    def _states(self, inputs: Tensor, segments: Segments) -> Tensor:
        if self._fast is not None:
            return self._fast(inputs, segments)
        positions = on_device(positions_within(segments.lengths), inputs.device)
        base: Any = self.lm.base_model
        return base(
            inputs_embeds=inputs[None], position_ids=positions[None], use_cache=False, segments=segments
        ).last_hidden_state[0]

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


def load_decoder(folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Decoder:
    """Return the frozen LM stored in a hub-layout folder, on `device`.

    Moving it later would store joined projections twice (llama.py), so it is moved before they are joined.

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
    if dtype == torch.float32 and torch.device(device).type == "cpu":
        return decoder
    return Decoder(_converted(lm, dtype).to(device), tokenizer)


def _converted(lm: Any, dtype: torch.dtype) -> Any:
    """Return the LM in `dtype`, with the frequencies of its rotary positions as they were.

    In bfloat16 a frequency is off by up to 0.4 %, which turns the thousandth position by more than a radian.
    """
    frequencies = {name: buffer.clone() for name, buffer in lm.named_buffers() if name.endswith("inv_freq")}
    lm = lm.to(dtype)
    for name, buffer in lm.named_buffers():
        if name in frequencies:
            buffer.data = frequencies[name]
    return lm


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
    segments: Segments | None = kwargs.get("segments")
    window = kwargs.get("sliding_window")
    too_short = segments is not None and window is not None and window < max(segments.lengths)
    if segments is None or kwargs.get("softcap") is not None or too_short:
        raise WeightsError(
            f"expected plain causal attention over whole sequences, found {type(module).__name__} with "
            f"softcap {kwargs.get('softcap')}, sliding window {window}, segments {segments}. "
            "Use a Llama, Qwen2, Qwen3, GPT-2, OLMo or Phi model as decoder"
        )
    query, key, value = (heads[0].transpose(0, 1) for heads in (query, key, value))
    return segment_attention(query, key, value, segments, causal=True, scale=kwargs.get("scaling"))[None], None


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """Return no mask: `segments` say everything."""


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
