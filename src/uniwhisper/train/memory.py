"""Memory of a training step from sizes and lengths: what lies on one device at its fullest.

Reads and writes nothing. Tensors are counted as the network keeps them for its backward (the tests count the same
tensors in running networks); what an allocator rounds up or keeps beside them is not.
"""

from __future__ import annotations

from dataclasses import dataclass

from uniwhisper.model.dims import AdapterConfig, EncoderDims
from uniwhisper.model.flops import LmDims, adapter_positions
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.workload import Lengths

__all__ = ["Memory", "Parameters", "count_parameters", "step_memory"]

_FP32, _BF16 = 4, 2
_BLOCK = 256
"""Values that share a scale in 8-bit AdamW. Source: bitsandbytes, `optimizer_update_8bit_blockwise`, and torchao,
`AdamW8bit(block_size=256)`."""

_ENCODER_LAYER = {_BF16: 38, _FP32: 68}
"""Bytes that an encoder layer keeps for each number of its input. bf16 under autocast: 4 + 4 (float32 inputs of the two
norms), 2 + 2 (their results), 6 (queries, keys, values) + 2 (scaled queries), 2 (attended), 8 + 8 (before and after
GELU); float32 keeps all of these in 4 bytes, and no scaled queries."""
_FRONT_END = {_BF16: 18, _FP32: 27}
"""The same for convolutions, positions and the last norm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """Numbers of weights, by what becomes of them."""

    encoder: int
    """Whisper's encoder, its sinusoids included."""
    subsampler: int
    adapter: int
    decoder: int
    """The frozen LM; norms and biases left out."""
    trained: int
    """Of encoder, subsampler and adapter together, those that the optimiser changes."""


def count_parameters(encoder: EncoderDims, adapter: AdapterConfig, lm: LmDims, *, frozen_layers: int = 0) -> Parameters:
    """Return the numbers of weights of a network with these sizes."""
    width, hidden = encoder.n_audio_state, adapter.hidden
    convolutions = 3 * encoder.n_mels * width + 3 * width * width + 2 * width
    positions = encoder.n_audio_ctx * width
    layer = 12 * width * width + 12 * width  # 9 widths of biases but the keys', which have none, and two norms
    frozen = positions + (convolutions + min(frozen_layers, encoder.n_audio_layer) * layer if frozen_layers else 0)
    audio = convolutions + positions + encoder.n_audio_layer * layer + 2 * width
    subsampler = 2 * width * width + width
    skip = (width + 1) * lm.width
    between = 2 * width + skip + (adapter.reduction * width + 1) * hidden + (hidden + 1) * lm.width
    return Parameters(
        encoder=audio,
        subsampler=subsampler,
        adapter=between,
        decoder=lm.parameters,
        trained=audio + subsampler + between - frozen,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes on one device, by what they hold."""

    weights: float
    """Encoder, subsampler and adapter as they are trained; in float32 these are the master weights."""
    casts: float
    """Copies of the trained matrices in bfloat16 that autocast keeps for a forward and its backward."""
    decoder: float
    optimizer: float
    gradients: float
    averages: float
    """Running average and starting weights, where the configuration asks for them."""
    activations: float
    """What one batch keeps for its backward, encoder and decoder, without recompute."""
    activations_recomputed: float
    """The same where encoder layers are computed again in the backward."""
    logits: float
    """Logits of one batch, their float32 copies and gradients."""
    recompute: bool
    """Whether the configuration recomputes."""
    at_once: int
    """Batches computed side by side."""

    @property
    def lasting(self) -> float:
        """Return what is there in every moment of a step."""
        return self.weights + self.decoder + self.optimizer + self.averages

    def peak(self, *, recompute: bool | None = None) -> float:
        """Return the most that is there at once: everything lasting, gradients, and batches before their backward.

        Gradients grow while activations go, so a step of a single batch stays a little below this.
        """
        recompute = self.recompute if recompute is None else recompute
        kept = self.activations_recomputed if recompute else self.activations
        return self.lasting + self.gradients + self.at_once * (self.casts + kept + self.logits)


def step_memory(config: TrainConfig, encoder: EncoderDims, lm: LmDims, batch: Lengths, *, device: str) -> Memory:
    """Return the memory of a step whose largest batch is `batch`.

    Args:
        config: The configuration.
        encoder: Sizes of the encoder.
        lm: Sizes of the LM.
        batch: Lengths of a batch.
        device: `cpu` or `cuda`: on a CPU attention in bfloat16 keeps its scores.
    """
    counts = count_parameters(encoder, config.adapter, lm, frozen_layers=config.optim.frozen_layers)
    number = _BF16 if config.precision == "bf16" else _FP32
    weight = _BF16 if config.optim.weights == "bf16" else _FP32
    own = counts.encoder + counts.subsampler + counts.adapter
    audio = counts.encoder + counts.subsampler
    batch = batch if config.execution.encoder == "packed" else batch.padded(encoder.n_audio_ctx)
    pieces = config.machine.pieces
    scores = device == "cpu" and number == _BF16
    decoder = _decoder_activations(config, lm, batch, number, scores=scores)
    full, recomputed = _encoder_activations(encoder, batch, number, scores=scores)
    at_once = config.parallel if device == "cpu" else 1
    parts = config.accumulation * pieces
    return Memory(
        weights=own * weight,
        casts=counts.trained * _BF16 if number == _BF16 and weight == _FP32 else 0,
        decoder=counts.decoder * number,
        optimizer=counts.trained * _state_bytes(config.optim.kind),
        gradients=counts.trained * weight * (at_once if parts <= at_once else 1 + (at_once if at_once > 1 else 0)),
        averages=audio * _FP32 * (bool(config.ema_decay) + bool(config.original_share)),
        activations=(full + decoder) / pieces,
        activations_recomputed=(recomputed + decoder) / pieces,
        logits=_logits(config, lm, batch, number) / pieces,
        recompute=config.execution.recompute,
        at_once=at_once,
    )


def _state_bytes(kind: str) -> float:
    """Return the bytes of both moments for each trained weight."""
    return 2 * _FP32 if kind == "adamw" else 2 * (1 + _FP32 / _BLOCK)


def _encoder_activations(dims: EncoderDims, batch: Lengths, number: int, *, scores: bool) -> tuple[float, float]:
    """Return what the encoder keeps, in full and where only the inputs of its layers are kept."""
    numbers = sum(batch.frames) * dims.n_audio_state
    squares = sum(t * t for t in batch.frames) * dims.n_audio_head * number if scores else 0
    layer = _ENCODER_LAYER[number] * numbers + squares
    front = _FRONT_END[number] * numbers
    return front + dims.n_audio_layer * layer, front + layer + (dims.n_audio_layer - 1) * _FP32 * numbers


def _positions(config: TrainConfig, batch: Lengths) -> list[int]:
    return [
        adapter_positions(count, config.adapter) + text
        for count, text in zip(batch.frames, batch.text_tokens, strict=True)
    ]


def _decoder_activations(config: TrainConfig, lm: LmDims, batch: Lengths, number: int, *, scores: bool) -> float:
    """Return what the frozen LM keeps to pass gradients on: no input of a matrix, but everything around them."""
    lengths = _positions(config, batch)
    if config.execution.decoder == "padded":
        lengths = [max(lengths)] * len(lengths)
    # Queries once and keys and values twice in Llama's shape, twice that where queries and keys are normed: the middle.
    heads = 1.5 * (lm.heads + 2 * lm.kv_heads) * lm.head_dim
    layer = 2 * lm.width + 3 * lm.hidden + heads if lm.gated else 6 * lm.width + 4 * lm.hidden + heads
    squares = lm.heads * sum(n * n for n in lengths) if scores else 0
    return float(lm.layers * number * (sum(lengths) * layer + squares))


def _logits(config: TrainConfig, lm: LmDims, batch: Lengths, number: int) -> float:
    """Return logits, their log-softmax and gradients in float32, at the fullest moment."""
    rows = batch.num_answer_tokens if config.execution.logits == "answers" else sum(_positions(config, batch))
    chunk = config.execution.loss_chunk
    return float((min(rows, chunk) if chunk else rows) * lm.vocabulary * (2 * _FP32 + number))
