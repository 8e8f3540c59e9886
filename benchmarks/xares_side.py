"""X-ARES's half of `bench_vs_xares.py`: one stage of one task in a process of its own, measured, as a line of JSON.

Needs X-ARES 0.1.3 with torch, transformers and soundfile, not uniwhisper. Reads `<env>/bench/wds-audio-fold-*.tar`,
writes what X-ARES writes. As `xares.run` does, it starts no processes that read ahead. Files are decoded by soundfile,
because torchaudio from 2.9 on decodes nothing without torchcodec and FFmpeg.

Two encoders with the same weights: `padded` does what the Whisper example of X-ARES does (pieces of up to 10 s, each
padded to 30 s, all 1500 frames kept); `exact` sees the clip and no padding, the kindest case for X-ARES's storage.
Source: https://github.com/jimbozhang/xares (v0.1.3, example/whisper/whisper_encoder.py, src/xares/run.py).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import soundfile
import torch
import torchaudio
from transformers import WhisperFeatureExtractor, WhisperModel

PIECE = 10 * 16_000


class WhisperEncoder(torch.nn.Module):
    """A stock Whisper encoder behind X-ARES's interface."""

    sampling_rate = 16_000
    hop_size_in_ms = 20

    def __init__(self, weights: str) -> None:
        super().__init__()
        self.encoder = WhisperModel.from_pretrained(weights).encoder.eval()
        self.extractor = WhisperFeatureExtractor(feature_size=self.encoder.config.num_mel_bins)
        self.output_dim = self.encoder.config.d_model

    def mel(self, audio: torch.Tensor) -> torch.Tensor:
        """Return the log-mel of each row, padded to 30 s: [B, M, 3000]."""
        rows = [row.numpy() for row in audio.cpu()]
        return self.extractor(rows, sampling_rate=16_000, return_tensors="pt").input_features


class PaddedEncoder(WhisperEncoder):
    """Every piece of up to 10 s is a window of 30 s."""

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Return the frames of [B, N] audio, padding and all: [B, 1500 a piece, D]."""
        pieces = [self.encoder(self.mel(piece)).last_hidden_state for piece in audio.split(PIECE, dim=1)]
        return torch.cat(pieces, dim=1)


class ExactEncoder(WhisperEncoder):
    """As many frames as the audio has, for audio of up to 30 s; rows of one batch have one length here."""

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Return the frames of [B, N] audio: [B, 50 a second, D]."""
        mel = self.mel(audio)[..., : -(-audio.shape[1] // 160)]
        net = self.encoder
        x = torch.nn.functional.gelu(net.conv2(torch.nn.functional.gelu(net.conv1(mel)))).permute(0, 2, 1)
        x = x + net.embed_positions.weight[: x.shape[1]]
        for layer in net.layers:
            found = layer(x, None)
            x = found[0] if isinstance(found, tuple) else found
        return net.layer_norm(x)


ENCODERS = {"padded": PaddedEncoder, "exact": ExactEncoder}


def load(file: Any, *args: Any, **options: Any) -> tuple[torch.Tensor, int]:
    """Decode as `torchaudio.load` did."""
    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    return torch.from_numpy(samples.T.copy()), rate


def label(sample: dict[str, int]) -> int:
    """Return the class of a sample."""
    return sample["label"]


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=("encode", "mlp", "knn"))
    parser.add_argument("--env", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--encoder", choices=sorted(ENCODERS), required=True)
    parser.add_argument("--task", required=True, help="folder below env with the tars")
    parser.add_argument("--classes", type=int, required=True)
    parser.add_argument("--folds", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torchaudio.load = load
    from xares.task import TaskConfig, XaresTask

    torch.multiprocessing.set_start_method("spawn")
    config = TaskConfig(
        name=options.task,
        env_root=options.env,
        encoder=ENCODERS[options.encoder](options.weights),
        k_fold_splits=list(range(1, options.folds + 1)),
        label_processor=label,
        output_dim=options.classes,
        torch_num_threads=options.threads,
    )
    task = XaresTask(config)
    stages: dict[str, Callable[[], Any]] = {"encode": task.make_encoded_tar, "mlp": task.run_mlp, "knn": task.run_knn}
    if options.stage == "mlp":  # a second training would be skipped
        shutil.rmtree(Path(options.env) / options.task / "checkpoints", ignore_errors=True)
    wall, cpu = time.perf_counter(), time.process_time()
    result = stages[options.stage]()
    measured = {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "peak_mb": peak_memory_mb(),
        "score": float(result[0]) if result else None,
        "folder": str(task.encoded_tar_dir),
    }
    print("RESULT " + json.dumps(measured), flush=True)


if __name__ == "__main__":
    main()
