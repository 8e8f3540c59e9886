"""Whisper of any size, and what `uniwhisper train` made of it: `embed.load` behind the registry.

Frames come after our subsampler (40 ms) or before it (`frames="encoder"`, 20 ms); clips are encoded at their true
length, in windows of 30 s, so no frame belongs to padding. See `uniwhisper.embed`.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from uniwhisper.embed import AudioEmbedder
from uniwhisper.embed import load as load_embedder
from uniwhisper.encoders._family import Family, Model, find, folder_config
from uniwhisper.errors import CheckpointError
from uniwhisper.files import read_json
from uniwhisper.weights import available

__all__ = ["FAMILY", "claims", "load"]


def _title(name: str) -> str:
    return "Whisper " + name.removeprefix("whisper-")


FAMILY = Family(
    name="whisper",
    about="Whisper of any size by name, hub id, folder or openai file, and run folders of `uniwhisper train`.",
    model_types=("whisper",),
    # OpenAI names no corpora: 680,000 hours of the web, 5 million for large-v3.
    # Sources: arXiv 2212.04356 sec. 2.1; the card of openai/whisper-large-v3.
    models=tuple(
        Model(name=m.name, hub_id=m.hub_id, title=_title(m.name), license=m.license)
        for m in available()
        if m.kind == "whisper"
    ),
    examples=("runs/mine", "path/to/small.pt"),
)


def claims(name: str) -> bool:
    """Return whether `name` is a run or encoder folder of ours, or a file of Whisper weights."""
    path = Path(name).expanduser()
    if path.is_dir():
        config = folder_config(path)
        trained = config.get("format") == "uniwhisper-encoder" or {"key", "config"} <= set(config)
        return trained or folder_config(path / "encoder").get("format") == "uniwhisper-encoder"
    if path.suffix == ".pt" and path.is_file():
        return _is_openai(path)
    return (path.is_file() and path.suffix == ".bin") or bool(re.fullmatch(r"openai/whisper-[\w.-]+", name))


def load(name: str, *, device: str = "cpu", precision: str = "fp32", frames: str = "subsampled") -> AudioEmbedder:
    """Return the encoder `name`.

    Args:
        name: A model of `FAMILY`, a hub id, a folder of weights, a run folder or its `encoder/`.
        device: A torch device.
        precision: `fp32`, or `bf16` where speed matters more than the third digit.
        frames: `subsampled` (40 ms) or `encoder` (20 ms).

    Raises:
        WeightsError: The weights cannot be had; the message lists every way tried.
        CheckpointError: The folder is no finished encoder.
    """
    encoder = load_embedder(name, device=device, precision=precision, frames=frames)
    model = find(FAMILY.models, name)
    trained_on = _mixture(Path(name).expanduser())
    # What the run saw; what its Whisper saw before that is not known.
    setattr(encoder, "trained_on", trained_on)  # noqa: B010
    setattr(encoder, "training_known", False)  # noqa: B010
    setattr(encoder, "license", model.license if model else "")  # noqa: B010
    return encoder


def _mixture(path: Path) -> tuple[str, ...]:
    """Return the corpora that an encoder of ours was trained on, as its config.json records them."""
    for folder in (path, path / "encoder"):
        if folder_config(folder).get("format") != "uniwhisper-encoder":
            continue
        provenance = read_json(folder / "config.json").get("provenance", {})
        mixture = provenance.get("mixture", {}) if isinstance(provenance, dict) else {}
        if not isinstance(mixture, dict):
            raise CheckpointError(
                f"{folder}/config.json: expected a mapping under provenance.mixture, found {mixture!r}"
            )
        return tuple(sorted(str(source) for source, weight in mixture.items() if weight))
    return ()


def _is_openai(path: Path) -> bool:
    """Return whether a .pt file is laid out as openai's are, by the names in its pickle, which is not unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith("/data.pkl") or n == "data.pkl"]
            return bool(names) and b"model_state_dict" in archive.read(names[0])
    except (OSError, zipfile.BadZipFile):
        return False
