"""A run of `uniwhisper train` without data or weights: random networks in real shapes, random clips of given lengths.

Reads and fetches nothing. The network, the optimiser, the step and the way of a batch to the device are those of
training; only what is learned is noise. Speed does not depend on what the numbers are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.batches import BatchOrder
from uniwhisper.mel import log_mel_tails
from uniwhisper.model.decoder import Decoder
from uniwhisper.model.dims import EncoderDims
from uniwhisper.model.encoder import AudioEncoder
from uniwhisper.model.flops import LmDims, StepFlops
from uniwhisper.model.sizes import find_encoder_dims, find_lm_dims
from uniwhisper.model.turns import Turn
from uniwhisper.model.uniwhisper import AudioModel, UniWhisper
from uniwhisper.train.batch import Batch
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.data import TrainingData
from uniwhisper.train.examples import seeded
from uniwhisper.train.optim import UpdateWatch, build_optimizer, in_their_types, init_optimizer_state, trainable
from uniwhisper.train.parallel import parallelise
from uniwhisper.train.prefetch import prefetched
from uniwhisper.train.run import Run
from uniwhisper.train.workers import load_by_thread
from uniwhisper.train.world import World
from uniwhisper.types import Example

__all__ = ["LARGE", "TINY", "RandomFeed", "Shape", "random_model", "random_run", "with_fields"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Sizes of a network."""

    name: str
    encoder: EncoderDims
    lm: LmDims


LARGE = Shape(
    name="whisper-large-v3 + qwen3-0.6b",
    encoder=find_encoder_dims("openai/whisper-large-v3"),
    lm=find_lm_dims("Qwen/Qwen3-0.6B"),
)
TINY = Shape(
    name="a toy",
    encoder=EncoderDims(n_mels=80, n_audio_ctx=1500, n_audio_state=32, n_audio_head=2, n_audio_layer=2),
    lm=LmDims(layers=2, width=32, hidden=64, heads=2, kv_heads=1, head_dim=16, vocabulary=128),
)


@dataclass(frozen=True, slots=True)
class _NoTokenizer:
    """Stands where the decoder keeps its tokenizer; nothing here is text."""

    eos_token_id: int = 0
    chat_template: None = None


def random_model(shape: Shape, config: TrainConfig, device: torch.device) -> UniWhisper:
    """Return the network of `config` with random weights, made on the device, the decoder in its own precision."""
    half = config.precision == "bf16"
    torch.manual_seed(config.seed)
    with device:
        lm = _random_lm(shape.lm)
        model = UniWhisper(
            audio=AudioModel(AudioEncoder(shape.encoder)),
            decoder=Decoder(lm.to(torch.bfloat16) if half else lm, _NoTokenizer()),
            adapter=config.adapter,
            precision=torch.bfloat16 if half else None,
            execution=config.execution,
        )
    trainable(model, config.optim)
    in_their_types(model, config.optim)
    return model


def _random_lm(dims: LmDims) -> nn.Module:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=dims.vocabulary,
            hidden_size=dims.width,
            intermediate_size=dims.hidden,
            num_hidden_layers=dims.layers,
            num_attention_heads=dims.heads,
            num_key_value_heads=dims.kv_heads,
            head_dim=dims.head_dim,
            tie_word_embeddings=dims.tied,
        )
    )


@dataclass(frozen=True, kw_only=True)
class RandomFeed:
    """Makes batches as a feed does: a thread works ahead of the computation, log-mels here or on the device."""

    order: BatchOrder
    lengths_s: Sequence[float] | np.ndarray
    n_mels: int
    vocabulary: int
    prompt_tokens: int
    answer_tokens: int
    host_mels: bool
    _noise: torch.Tensor = field(default_factory=lambda: _noise(31 * SAMPLE_RATE))

    def batch(self, number: int) -> Batch:
        """Return batch `number`, which depends on nothing else."""
        rng = np.random.default_rng(seeded("random feed", number))
        indices = [draw.index for draw in self.order.batch(number)]
        samples = [max(1, round(float(self.lengths_s[i]) * SAMPLE_RATE)) for i in indices]
        waves = [self._noise[:count].clone() for count in samples]
        clip_mels = log_mel_tails(waves, self.n_mels) if self.host_mels else []
        return Batch(
            mels=[mel for mel, _ in clip_mels],
            tails=[tail for _, tail in clip_mels],
            turns=[
                Turn(prompt=self._ids(rng, self.prompt_tokens), answer=self._ids(rng, self.answer_tokens))
                for _ in indices
            ],
            examples=[
                Example(clip_id=str(i), source="random", family="captioning", prompt="", answer="") for i in indices
            ],
            domains=("sound",) * len(indices),
            audio_s=sum(samples) / SAMPLE_RATE,
            num_answer_tokens=len(indices) * self.answer_tokens,
            waves=[] if self.host_mels else waves,
        )

    def _ids(self, rng: np.random.Generator, count: int) -> tuple[int, ...]:
        return tuple(rng.integers(1, self.vocabulary, count).tolist())

    def load(self, numbers: Sequence[int], config: TrainConfig, device: torch.device) -> Iterator[Batch]:
        """Yield batches on the device, prepared ahead."""
        made = load_by_thread(self.batch, numbers, config.machine.ahead)
        return prefetched(made, device=device, n_mels=self.n_mels, pin=config.machine.pin)


def _noise(samples: int) -> torch.Tensor:
    return torch.randint(-3000, 3000, (samples,), dtype=torch.int16, generator=torch.Generator().manual_seed(0))


def random_run(
    shape: Shape, config: TrainConfig, lengths_s: np.ndarray, world: World, *, prompt_tokens: int, answer_tokens: int
) -> tuple[Run, RandomFeed]:
    """Return a run past its alignment phase, on the device of `world`, and the feed of its batches.

    Raises:
        UniWhisperError: The configuration cannot run on this machine.
    """
    model = random_model(shape, config, world.device)
    order = BatchOrder({"random": lengths_s}, config=config.batches, seed=config.seed)
    optimizer = build_optimizer(model, config.optim)
    init_optimizer_state(optimizer)
    mel = config.machine.mel
    feed = RandomFeed(
        order=order,
        lengths_s=lengths_s,
        n_mels=shape.encoder.n_mels,
        vocabulary=shape.lm.vocabulary,
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        host_mels=mel == "host" or (mel == "auto" and world.device.type == "cpu"),
    )
    run = Run(
        config=config,
        data=TrainingData(sources={}, durations={"random": lengths_s}, key="random"),
        out=Path(),
        key="random",
        world=world,
        model=model,
        network=parallelise(model, world, config.machine),
        feed=feed,  # type: ignore[arg-type]  # the step reads no batch of its own
        order=order,
        optimizer=optimizer,
        average={},
        original={},
        updates=UpdateWatch(model),
        flops=StepFlops(encoder=shape.encoder, adapter=config.adapter, lm=shape.lm),
        peak_flops=None,
        pieces=config.machine.pieces,
        step=config.optim.align_steps + 1,  # beyond the alignment phase; not one of the steps that look at the weights
    )
    return run, feed


def with_fields(config: TrainConfig, **parts: dict[str, object]) -> TrainConfig:
    """Return the configuration with fields of its parts replaced: `execution={"compile": True}`."""
    return replace(config, **{name: replace(getattr(config, name), **fields) for name, fields in parts.items()})
