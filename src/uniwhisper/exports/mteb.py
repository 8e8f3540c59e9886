"""mteb: an encoder that turns a loader of recordings into one vector a recording.

Implements mteb 2's `EncoderProtocol` without importing mteb until its metadata are asked for; mteb itself is a peer and
not a requirement. Recordings are averaged to mono and brought to the encoder's rate with soxr; none is cut.

Source: https://github.com/embeddings-benchmark/mteb mteb/models/models_protocols.py (EncoderProtocol) and
    mteb/types/_encoder_io.py (AudioInputItem), version 2.26
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from jaxtyping import Float

from uniwhisper.errors import AudioError, EncoderError
from uniwhisper.exports._waves import open_encoder, write_module

__all__ = ["MtebEncoder", "write"]


class MtebEncoder:
    """An encoder as mteb calls it; vectors are means over valid frames and are compared by cosine."""

    def __init__(self, model_name: str, revision: str | None = None, *, device: str | None = None, **_: Any) -> None:
        self.model = open_encoder(model_name, device)
        self._revision = revision

    def encode(
        self, inputs: Iterable[dict[str, Any]], *, task_metadata: Any = None, **_: Any
    ) -> Float[np.ndarray, "n D"]:
        """Return one float32 vector for every recording that the loader yields, in its order.

        Args:
            inputs: Yields batches `{"audio": [{"array": samples, "sampling_rate": Hz}, ...]}`.
            task_metadata: Not used: no prompt depends on the task.

        Raises:
            EncoderError: A batch has no audio.
            AudioError: A recording is empty or not finite.
        """
        vectors = [frames.mean(axis=0) for batch in inputs for frames in self.model.frames(list(self._waves(batch)))]
        return np.stack(vectors).astype(np.float32) if vectors else np.zeros((0, self.model.dim), dtype=np.float32)

    def _waves(self, batch: dict[str, Any]) -> Iterator[np.ndarray]:
        if "audio" not in batch:
            raise EncoderError(f"expected batches with audio, found {', '.join(batch)}: this encoder hears only")
        for item in batch["audio"]:
            yield _wave(item, self.model.sample_rate)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the cosine between every pair of rows, as a tensor."""
        from mteb.similarity_functions import cos_sim  # type: ignore[import-not-found]

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the cosine between rows of the same number, as a tensor."""
        from mteb.similarity_functions import pairwise_cos_sim  # type: ignore[import-not-found]

        return pairwise_cos_sim(embeddings1, embeddings2)

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb writes beside results: a name of its own, so that numbers of padded stock encoders stay apart.

        Raises:
            EncoderError: mteb is not installed.
        """
        try:
            from mteb.models import ModelMeta  # type: ignore[import-not-found]
        except ImportError as e:
            raise EncoderError(f"expected mteb: pip install 'mteb[audio]' ({e})") from e
        empty: dict[str, Any] = dict.fromkeys(
            ("release_date", "languages", "n_parameters", "memory_usage_mb", "max_tokens", "license", "open_weights")
        )
        return ModelMeta(
            **empty,
            loader=None,
            name=f"uniwhisper/{_slug(self.model.name)}",
            revision=self._revision or self.model.fingerprint[:12],
            embed_dim=self.model.dim,
            public_training_code=None,
            public_training_data=None,
            framework=["PyTorch"],
            similarity_fn_name="cosine",
            use_instructions=False,
            training_datasets=None,
            modalities=["audio"],
        )


def _slug(name: str) -> str:
    """Return letters, digits, dots and dashes; of a path its last two parts, because runs end in `encoder`."""
    last = "-".join(Path(name).parts[-2:]) if Path(name).is_absolute() else name
    return re.sub(r"[^A-Za-z0-9.]+", "-", last).strip("-")


def _wave(item: Any, sample_rate: int) -> np.ndarray:
    """Return a recording as a mono float32 wave of this rate in [-1, 1]."""
    array, rate = np.asarray(item["array"], dtype=np.float32), int(item["sampling_rate"])
    mono = array.mean(axis=0) if array.ndim == 2 else array
    if mono.ndim != 1 or len(mono) == 0 or not np.isfinite(mono).all():
        raise AudioError(f"expected finite samples [N] or [channels, N], found {list(array.shape)}")
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate, quality="HQ")
    return np.clip(mono, -1.0, 1.0)


def write(model: str, out: Path) -> None:
    """Write the module of `model` to `out`, after loading it once.

    Raises:
        EncoderError: The encoder cannot be loaded.
    """
    open_encoder(model, "cpu")
    body = f"""
from uniwhisper.exports.mteb import MtebEncoder

__all__ = ["load_model"]


def load_model(device: str | None = None) -> MtebEncoder:
    return MtebEncoder({model!r}, device=device)
"""
    write_module(out, "An encoder for mteb, written by uniwhisper export.", body)
