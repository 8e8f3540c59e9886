"""The ASR probe's training step and decoding against what one would write with transformers alone.

    python benchmarks/bench_asr.py --decoder smollm2-135m --write

Ours: packed clips, logits at answer positions alone, a cache that drops sequences as they end. Plain: a batch padded to
its longest clip with `labels`, and `generate` on clips padded on the left. Both read the same random frames with the
lengths of real utterances through the same adapter and the same weights; float32 losses and transcripts have to be
equal before anything is timed.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM

from timing import interleave, table, write_result
from uniwhisper.evaluate.asr import STRICT, AsrConfig
from uniwhisper.evaluate.asr.adapter import SwigluAdapter
from uniwhisper.evaluate.asr.decode import transcripts
from uniwhisper.evaluate.asr.decoders import TINY_NAME, open_decoder, tiny_decoder
from uniwhisper.evaluate.asr.examples import Utterance, pack
from uniwhisper.evaluate.asr.fit import piece_losses, train_step
from uniwhisper.model.decoder import Turn
from uniwhisper.threads import one_thread_each
from uniwhisper.weights import resolve

OURS, PLAIN = "ours", "plain transformers"
TOLERANCE = 1e-4
_HOP_S, _WORDS_A_SECOND = 0.04, 2.7


class RandomFrames:
    """Frames of clips whose lengths spread as those of read speech do: 2 to 16 seconds, most of them long."""

    def __init__(self, num_clips: int, dim: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.seconds = 2.0 + 14.0 * rng.beta(2.5, 1.2, size=num_clips)
        self.lengths = np.round(self.seconds / _HOP_S).astype(np.int64)
        self._clips = [rng.normal(size=(n, dim)).astype(np.float32) for n in self.lengths]
        self.dim = dim

    def __len__(self) -> int:
        return len(self._clips)

    def rows(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the frames of some clips end to end, and their numbers."""
        return np.concatenate([self._clips[i] for i in indices]), self.lengths[list(indices)]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A batch of clips."""

    clips: list[Utterance]


class Bench:
    """Both sides on the same weights."""

    def __init__(self, config: AsrConfig, options: argparse.Namespace) -> None:
        self.config, self.limit = config, options.limit
        self.lm = open_decoder(config)
        self.frames: Any = RandomFrames(options.clips * options.batches, options.dim)
        torch.manual_seed(0)
        settings = {"hidden": options.hidden, "decoder_width": self.lm.decoder.width, "reduction": config.reduction}
        self.adapter = SwigluAdapter(options.dim, **settings)
        self.optimizer = torch.optim.Adam(self.adapter.parameters(), lr=1e-6, fused=True)
        self.twin = copy.deepcopy(self.adapter)
        self.twin_optimizer = torch.optim.Adam(self.twin.parameters(), lr=1e-6, fused=True)

    @cached_property
    def stock(self) -> Any:
        """Return transformers' model with the same weights."""
        dtype = torch.bfloat16 if self.config.precision == "bf16" else torch.float32
        if self.config.decoder == TINY_NAME:
            lm: Any = tiny_decoder().lm
            lm.set_attn_implementation("sdpa")
        else:
            lm = AutoModelForCausalLM.from_pretrained(resolve(self.config.decoder), dtype=torch.float32)
        return lm.to(dtype).eval().requires_grad_(False)

    def cases(self, clips: int) -> list[Case]:
        """Return the batches; transcripts are random tokens, as many as read speech has."""
        rng = np.random.default_rng(1)
        found = []
        for row, seconds in enumerate(self.frames.seconds):
            words = rng.integers(100, self.lm.decoder.embedding.shape[0] - 100, size=int(seconds * _WORDS_A_SECOND) + 1)
            turn = Turn(prompt=(self.lm.separator,), answer=(*words.tolist(), self.lm.end))
            inputs = -(-int(self.frames.lengths[row]) // self.config.reduction)
            found.append(Utterance(row=row, text="", turn=turn, inputs=inputs))
        return [Case(clips=found[i : i + clips]) for i in range(0, len(found), clips)]

    def step_ours(self, case: Case) -> None:
        """Do the probe's training step."""
        train_step(self.adapter, self.optimizer, self.lm, self.frames, [case.clips], self.config, rate=1e-6)

    def step_plain(self, case: Case) -> None:
        """Do the plain step."""
        self.twin_optimizer.zero_grad(set_to_none=True)
        self.plain_loss(case).backward()
        torch.nn.utils.clip_grad_norm_(self.twin.parameters(), 1.0)
        self.twin_optimizer.step()

    def plain_loss(self, case: Case) -> Tensor:
        """Return the model's own loss on a padded batch."""
        embeds = self.stock.get_input_embeddings().weight
        rows, labels = [], []
        for audio, clip in zip(self._audio(case), case.clips, strict=True):
            text = torch.tensor(clip.turn.prompt + clip.turn.answer)
            rows.append(torch.cat([audio, embeds[text]]))
            labels.append(torch.full((len(rows[-1]),), -100))
            labels[-1][-len(clip.turn.answer) :] = torch.tensor(clip.turn.answer)
        mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in labels], batch_first=True)
        return self.stock(
            inputs_embeds=pad_sequence(rows, batch_first=True),
            attention_mask=mask,
            labels=pad_sequence(labels, batch_first=True, padding_value=-100),
            num_items_in_batch=sum(len(clip.turn.answer) for clip in case.clips),
            use_cache=False,
        ).loss

    def decode_ours(self, case: Case) -> list[str]:
        """Return the transcripts of the probe."""
        return transcripts(self.adapter, self.lm, self.frames, case.clips, self.config, limit=self.limit)[0]

    @torch.no_grad()
    def decode_plain(self, case: Case) -> list[str]:
        """Return what `generate` writes."""
        separator = self.stock.get_input_embeddings().weight[[self.lm.separator]]
        rows = [torch.cat([audio, separator]) for audio in self._audio(case)]
        ones = [torch.ones(len(row), dtype=torch.long) for row in rows]
        found = self.stock.generate(
            inputs_embeds=pad_sequence(rows, batch_first=True, padding_side="left"),
            attention_mask=pad_sequence(ones, batch_first=True, padding_side="left"),
            do_sample=False,
            max_new_tokens=self.limit,
            eos_token_id=self.lm.end,
            pad_token_id=self.lm.end,
        )
        decode = self.lm.decoder.tokenizer.batch_decode
        return [text.strip() for text in decode(found, skip_special_tokens=True)]

    def _audio(self, case: Case) -> list[Tensor]:
        """Return the LM's inputs of every clip; the adapter is packed on both sides, which favours the plain one."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.precision == "bf16"):
            packed = self.twin(pack(self.frames, case.clips, "cpu"))
        dtype = self.stock.get_input_embeddings().weight.dtype
        return [rows.to(dtype) for rows in packed.split()]


def check_equal(config: AsrConfig, options: argparse.Namespace) -> str:
    """Return the float32 differences of a small batch.

    Raises:
        SystemExit: Losses or transcripts differ.
    """
    bench = Bench(replace(config, precision="fp32"), options)
    case = Case(clips=bench.cases(options.clips)[0].clips[:4])
    with torch.no_grad():
        ours = float(piece_losses(bench.adapter, bench.lm, bench.frames, case.clips, bench.config).mean())
        plain = float(bench.plain_loss(case))
    mine, theirs = bench.decode_ours(case), bench.decode_plain(case)
    if abs(ours / plain - 1) > TOLERANCE or mine != theirs:
        raise SystemExit(f"the two sides differ in float32: losses {ours} and {plain}, transcripts {mine} and {theirs}")
    return (
        f"float32, {len(case.clips)} clips: loss ours {ours:.6f}, plain {plain:.6f} "
        f"(relative difference {abs(ours / plain - 1):.1e}); transcripts of {options.limit} tokens equal"
    )


def main() -> None:
    """Check that both sides agree, then time them by turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decoder", default="smollm2-135m")
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16"))
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--hidden", type=int, default=STRICT.hidden)
    parser.add_argument("--reduction", type=int, default=2)
    parser.add_argument("--clips", type=int, default=8, help="in a batch")
    parser.add_argument("--batches", type=int, default=2)
    parser.add_argument("--limit", type=int, default=40, help="tokens of a transcript")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args()
    config = replace(
        STRICT, decoder=options.decoder, precision=options.precision, reduction=options.reduction, parallel=1
    )
    with one_thread_each():
        lines = [check_equal(config, options), ""]
        bench = Bench(config, options)
        cases = bench.cases(options.clips)
        rows = []
        for what, sides in (
            ("training step", {OURS: bench.step_ours, PLAIN: bench.step_plain}),
            ("decoding", {OURS: bench.decode_ours, PLAIN: bench.decode_plain}),
        ):
            timings = interleave(sides, cases, repeats=options.repeats)
            base = timings[PLAIN].median_cpu_s
            for name, timing in timings.items():
                seconds = timing.median_cpu_s / len(cases)
                rows.append([what, name, f"{seconds:.2f}", f"{base / timing.median_cpu_s:.2f}"])
    header = ("part", "side", f"CPU seconds a batch of {options.clips} clips", "times faster")
    lines.append(table(header, rows))
    print("\n".join(lines))
    if options.write:
        print(write_result("asr", "\n".join(lines)))


if __name__ == "__main__":
    main()
