"""Floating-point operations of a training step, from lengths alone: what a step costs before any code runs.

Conventions: a multiply-add counts two; matrix products and attention count; norms, activations, softmax and the lookup
of embeddings do not. What is trained counts three forwards (forward, gradient of inputs, gradient of weights), except
the first convolution, whose input needs no gradient. The frozen LM counts two for its matrices (forward, gradient of
inputs) and three for attention, which has gradients of both its factors. Causal attention counts half of its square,
padded or not, which favours the padded side. What a run computes twice (recompute) or beside (padding) does not count,
so a share of the peak rate made from these numbers is the share that did useful work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from uniwhisper.errors import WeightsError
from uniwhisper.model.dims import AdapterConfig, EncoderDims

if TYPE_CHECKING:
    from uniwhisper.model.decoder import Turn

__all__ = [
    "LmDims",
    "StepFlops",
    "adapter_flops",
    "adapter_positions",
    "encoder_flops",
    "encoder_frames",
    "lm_flops",
]

_TRAINED, _FROZEN, _ATTENTION = 3, 2, 3

_NAMES = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "width": ("hidden_size", "n_embd", "d_model"),
    "heads": ("num_attention_heads", "n_head", "num_heads", "n_heads"),
    "vocabulary": ("vocab_size",),
}
"""What a size is called in the configurations of transformers; the first that is there counts."""
_HIDDEN = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
_UNGATED = frozenset(
    {"bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "mpt", "opt", "phi"}
    | {"starcoder2", "xglm"}
)
"""Model types whose feed-forward layer is two matrices; all others here have three (a gate, as Llama has).
Source: the `modeling_*.py` of each in huggingface/transformers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LmDims:
    """Sizes of a causal LM."""

    layers: int
    width: int
    hidden: int
    """Width inside the feed-forward layers."""
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    gated: bool = True
    """Three matrices in a feed-forward layer (Llama's kind), or two (GPT-2's)."""
    tied: bool = True
    """The head is the embedding matrix, stored once."""

    @classmethod
    def of(cls, config: Any) -> Self:
        """Return the sizes stated in a transformers configuration, or in the content of its `config.json`.

        Llama's names are tried first, then those of GPT-2 and its relatives. Where no feed-forward width is stated it
        is four times the width, as those models define it.

        Raises:
            WeightsError: A size is stated under none of the known names.
        """
        read = _reader(config)
        sizes = {}
        for size, names in _NAMES.items():
            sizes[size] = next((found for name in names if (found := read(name))), None)
            if sizes[size] is None:
                raise WeightsError(
                    f"expected one of {', '.join(names)} in the configuration of a "
                    f"{read('model_type') or 'model of unknown type'}, found none: is this a causal LM?"
                )
        heads, width = sizes["heads"], sizes["width"]
        kind = read("model_type")
        kv_heads = 1 if read("multi_query") and kind in ("falcon", "gpt_bigcode") else read("num_key_value_heads")
        tied = read("tie_word_embeddings")
        return cls(
            **sizes,
            hidden=next((found for name in _HIDDEN if (found := read(name))), 4 * width),
            kv_heads=kv_heads or heads,
            head_dim=read("head_dim") or width // heads,
            gated=kind not in _UNGATED,
            tied=kind in _UNGATED if tied is None else bool(tied),
        )

    @property
    def matrices(self) -> int:
        """Return the weights of the layers' matrices: what every position is multiplied with."""
        projections = self.width * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (projections + (3 if self.gated else 2) * self.width * self.hidden)

    @property
    def parameters(self) -> int:
        """Return all weights but norms and biases, which are less than a thousandth; a tied head counts once."""
        return self.matrices + (1 if self.tied else 2) * self.width * self.vocabulary


def _reader(config: Any) -> Any:
    """Return a function from a field's name to its value or None, for an object or a mapping, text part first."""
    if isinstance(config, Mapping):
        inner = config.get("text_config")
        return (inner if isinstance(inner, Mapping) else config).get
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return lambda name: getattr(text, name, None)


def encoder_frames(mel_frames: int) -> int:
    """Return the 20 ms frames that the encoder makes of so many 10 ms log-mel frames."""
    return -(-mel_frames // 2)


def adapter_positions(frames: int, config: AdapterConfig) -> int:
    """Return the decoder positions that so many 20 ms encoder frames become."""
    halved = -(-frames // 2)
    return -(-halved // config.reduction)


def encoder_flops(dims: EncoderDims, frames: Sequence[int], *, frozen_layers: int = 0, frozen: bool = False) -> float:
    """Return the operations of training the encoder on clips of so many 20 ms frames.

    Args:
        dims: Sizes of the encoder.
        frames: 20 ms frames of each clip.
        frozen_layers: Layers from the input up that have no gradient (the convolutions go with the first).
        frozen: The whole encoder runs forward only.
    """
    width, layers = dims.n_audio_state, dims.n_audio_layer
    first = 2 * (2 * 3 * dims.n_mels * width)  # conv1 runs at twice the frame rate
    second = 2 * 3 * width * width
    still = layers if frozen else min(frozen_layers, layers)
    passes = still + _TRAINED * (layers - still)
    convolutions = first + second if frozen or frozen_layers else _FROZEN * first + _TRAINED * second
    linear, attention = 2 * 12 * width * width, 4 * width
    return float(sum(t * (convolutions + passes * (linear + attention * t)) for t in frames))


def adapter_flops(
    dims: EncoderDims, config: AdapterConfig, lm: LmDims, frames: Sequence[int], *, frozen: bool = False
) -> float:
    """Return the operations of training subsampler and adapter on clips of so many 20 ms frames.

    Args:
        dims: Sizes of the encoder.
        config: Shape of the adapter.
        lm: Sizes of the LM.
        frames: 20 ms frames of each clip.
        frozen: The subsampler, which belongs to the audio model, runs forward only; the adapter is trained always.
    """
    width, subsampler, adapter = dims.n_audio_state, 0, 0
    mlp = width * lm.width + config.reduction * width * config.hidden + config.hidden * lm.width
    for count in frames:
        halved = -(-count // 2)
        subsampler += 2 * halved * 2 * width * width
        adapter += 2 * adapter_positions(count, config) * mlp
    return float((1 if frozen else _TRAINED) * subsampler + _TRAINED * adapter)


def lm_flops(dims: LmDims, lengths: Sequence[int], num_logits: int) -> float:
    """Return the operations of a forward and a backward through the frozen LM.

    Args:
        dims: Sizes of the LM.
        lengths: Positions of every sequence, padding included where it is computed.
        num_logits: Positions at which logits are computed.
    """
    linear = 2 * dims.matrices
    attention = dims.layers * 2 * dims.heads * dims.head_dim
    head = 2 * dims.width * dims.vocabulary
    body = sum(_FROZEN * linear * n + _ATTENTION * attention * n * n for n in lengths)
    return float(body + _FROZEN * head * num_logits)


@dataclass(frozen=True, slots=True)
class StepFlops:
    """Counts the operations of batches; the basis of TFLOP/s and of the share of the peak rate (MFU)."""

    encoder: EncoderDims
    adapter: AdapterConfig
    lm: LmDims
    opening: int = 0
    """Tokens before the audio: `len(decoder.dialogue.opening)`."""
    frozen_layers: int = 0
    """Encoder layers that never change (`OptimConfig.frozen_layers`)."""

    def of(self, frames: Sequence[int], turns: Sequence[Turn], *, audio_frozen: bool = False) -> float:
        """Return the operations of a forward and a backward of one batch.

        Args:
            frames: 10 ms log-mel frames of each clip: `mel.shape[1]`, or `ceil(samples / 160)`.
            turns: Prompt and answer of each clip.
            audio_frozen: The audio model runs forward only, as in the alignment phase.
        """
        return self.of_lengths(
            [encoder_frames(count) for count in frames],
            [len(turn.prompt) + len(turn.answer) for turn in turns],
            sum(len(turn.answer) for turn in turns),
            audio_frozen=audio_frozen,
        )

    def of_lengths(
        self, frames: Sequence[int], text_tokens: Sequence[int], num_answer_tokens: int, *, audio_frozen: bool = False
    ) -> float:
        """Return the same from 20 ms frames, tokens of prompt and answer of each clip, and answer tokens in all."""
        lengths = self._lengths(frames, text_tokens)
        return (
            encoder_flops(self.encoder, frames, frozen_layers=self.frozen_layers, frozen=audio_frozen)
            + adapter_flops(self.encoder, self.adapter, self.lm, frames, frozen=audio_frozen)
            + lm_flops(self.lm, lengths, num_answer_tokens)
        )

    def positions(self, frames: Sequence[int], turns: Sequence[Turn]) -> int:
        """Return the decoder positions that a batch takes up: opening, audio, prompt and answer."""
        texts = [len(turn.prompt) + len(turn.answer) for turn in turns]
        return sum(self._lengths([encoder_frames(count) for count in frames], texts))

    def _lengths(self, frames: Sequence[int], text_tokens: Sequence[int]) -> list[int]:
        return [
            self.opening + adapter_positions(count, self.adapter) + text - 1  # nothing follows the last answer token
            for count, text in zip(frames, text_tokens, strict=True)
        ]
