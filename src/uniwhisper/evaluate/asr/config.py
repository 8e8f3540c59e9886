"""How an encoder's frames are turned into text: every choice of the ASR probe, and the two named ones.

`STRICT` is ours; `XARES` is X-ARES 0.1.3's, as far as that can be repeated. What differs from X-ARES even then, because
it would make a score depend on chance or on the neighbours in a batch:

* generation there samples from the best token alone (`top_k=1`), which is greedy decoding but for exact ties;
* there a batch of 4 is padded between audio and text, and text positions are counted with the padding in training and
  without it in generation; here examples are packed and both count the same;
* the order of clips is seeded here and not there;
* the LM is computed in bfloat16 here and under float16 autocast, on CUDA only, there;
* there a stock teacher-forced prediction may run on into the padding of its batch before it is cut; here it ends with
  the transcript.

Source: https://pypi.org/project/xares/0.1.3/ (xares/models/asr.py, xares/trainer.py, tasks/librispeech_asr_task.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from uniwhisper.errors import ConfigError
from uniwhisper.evaluate.transcripts import NORMALISERS

__all__ = ["SELECTIONS", "STRICT", "TINY", "XARES", "AsrConfig", "Precision", "Selection"]

Precision = Literal["fp32", "bf16"]

Selection = Literal["wer", "loss", "teacher_forced", "last"]
SELECTIONS: tuple[Selection, ...] = get_args(Selection)
"""What chooses an epoch on the validation part: the word error rate of free decoding, the loss of an answer token, the
word error rate of predictions that read the true words so far (X-ARES), or nothing: the last epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AsrConfig:
    """The adapter, its training, its choice and the decoding."""

    decoder: str = "Qwen/Qwen2.5-0.5B"
    """The frozen LM: any name that `weights.resolve` knows, or `tiny`, a random one for tests and mock runs.
    Source of the default: X-ARES 0.1.3, xares/models/asr.py."""
    precision: Precision = "bf16"
    """Of the frozen LM and of the adapter's products; the adapter's weights and its optimiser are float32 always."""
    hidden: int = 4864
    """Width of the adapter. Source: X-ARES takes its LM's feed-forward width, which is this in Qwen2.5-0.5B."""
    reduction: int = 1
    """Consecutive frames that become one input of the LM, stacked; X-ARES: 1. A larger number is cheaper."""
    standardise: bool = True
    """Shift and scale every feature by its mean and deviation over the training part's frames."""
    warm_start: bool = False
    """Start from a closed-form linear map to the LM's word embeddings instead of random numbers (warm_start.py)."""
    separator: str = "<|vision_end|>"
    """Token between audio and transcript where the tokenizer has it, else its first special token. Source: X-ARES."""
    predict_separator: bool = False
    """Whether the separator's own prediction is in the loss, as in X-ARES."""
    lower_case: bool = True
    """Learn lower-case transcripts instead of those stored; LibriSpeech stores upper case, which tokenizers split."""
    learning_rate: float = 1e-3
    """Peak rate. Source: X-ARES 0.1.3, xares/task.py."""
    end_share: float = 0.0
    """Where the cosine ends, as a share of the peak rate."""
    schedule: Literal["step", "epoch"] = "step"
    """Whether the rate changes every step or every epoch (X-ARES)."""
    warmup_steps: int = 50
    """Steps over which the rate rises; 0: none."""
    clip_norm: float = 1.0
    """Largest gradient norm; 0: no limit."""
    epochs: int = 10
    batch_clips: int = 0
    """Clips in a step; 0: as many as `batch_positions` hold. X-ARES: 4."""
    batch_positions: int = 4096
    """Decoder positions (audio and text) in a step; with a fixed number of clips it only bounds validation batches."""
    parallel: int = 2
    """Pieces of a step that may be computed side by side; part of the result's last bits, so it is no machine's."""
    selection: Selection = "wer"
    patience_epochs: int = 3
    """Training stops after this many epochs without a better validation; 0: never."""
    normaliser: str = "lower-nopunct"
    """How transcripts are made comparable for the validation's word error rate (transcripts.py)."""
    max_new_tokens: int = 0
    """Longest answer in tokens; 0: twice the longest training transcript. Answers cut off by it are counted."""
    repetition_penalty: float = 1.0
    """Divides the scores of tokens already in the answer (multiplies negative ones); 1: none."""
    decode_positions: int = 16384
    """Positions of keys and values in memory at once; clips of similar length are decoded together within it."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Independent trainings: initial weights and order of clips."""

    def __post_init__(self) -> None:
        if self.selection not in SELECTIONS:
            raise ConfigError(f"asr.selection: expected one of {', '.join(SELECTIONS)}, found {self.selection!r}")
        if self.precision not in get_args(Precision) or self.schedule not in ("step", "epoch"):
            raise ConfigError(
                "asr: expected precision fp32 or bf16 and schedule step or epoch, "
                f"found {self.precision!r} and {self.schedule!r}"
            )
        positive = {
            name: getattr(self, name)
            for name in ("hidden", "reduction", "epochs", "batch_positions", "parallel", "decode_positions")
        }
        if bad := [f"{name} = {value}" for name, value in positive.items() if value < 1]:
            raise ConfigError(f"asr: expected whole numbers of at least 1, found {', '.join(bad)}")
        counts = {name: getattr(self, name) for name in ("warmup_steps", "batch_clips", "patience_epochs")}
        if bad := [f"{name} = {value}" for name, value in counts.items() if value < 0]:
            raise ConfigError(f"asr: expected whole numbers of at least 0, found {', '.join(bad)}")
        if self.normaliser not in NORMALISERS:
            raise ConfigError(f"asr.normaliser: expected one of {', '.join(NORMALISERS)}, found {self.normaliser!r}")
        if self.max_new_tokens < 0 or self.repetition_penalty <= 0 or self.clip_norm < 0:
            raise ConfigError("asr: expected max_new_tokens >= 0, repetition_penalty > 0 and clip_norm >= 0")
        if self.learning_rate <= 0 or not 0 <= self.end_share <= 1:
            raise ConfigError("asr: expected learning_rate > 0 and 0 <= end_share <= 1")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(f"asr.seeds: expected at least one seed, each once, found {self.seeds}")


STRICT = AsrConfig(batch_clips=8)
"""Lower-case text, greedy decoding without penalty, answers up to twice the longest training transcript, standardised
frames, the epoch chosen by free decoding of the validation part, three seeds."""

XARES = AsrConfig(
    standardise=False,
    predict_separator=True,
    lower_case=False,
    end_share=0.1,
    schedule="epoch",
    warmup_steps=0,
    clip_norm=0.0,
    batch_clips=4,
    selection="teacher_forced",
    patience_epochs=0,
    normaliser="raw-lower",
    max_new_tokens=200,
    repetition_penalty=1.1,
    seeds=(42,),
)
"""X-ARES 0.1.3: Adam at 1e-3, 4 clips a step, 10 epochs with a cosine by epoch to a tenth, text as stored, the epoch
chosen by teacher-forced predictions cut to the transcript's length, generation with a penalty of 1.1 and 200 tokens."""

TINY = replace(
    STRICT,
    decoder="tiny",
    precision="fp32",
    hidden=64,
    reduction=4,
    warmup_steps=5,
    epochs=2,
    batch_positions=1024,
    max_new_tokens=24,
    seeds=(0, 1),
)
"""For mock runs: every part of the line in seconds, with a random LM; the transcripts mean nothing."""
