"""`uniwhisper embed`: audio files become one npz of vectors, or of timed frames."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from uniwhisper.embed import AudioEmbedder

__all__ = ["command"]

_FILES_PER_CALL = 64
"""Files embedded at once; what is done is cached, so an interrupted command goes on where it stopped."""


@click.command()
@click.argument("model")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The npz file to write.")
@click.option("--frames", is_flag=True, help="Write every 40 ms frame instead of one vector a file.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
def command(model: str, files: tuple[Path, ...], out: Path, frames: bool, precision: str) -> None:
    """Embed FILES with MODEL: a folder that `train` wrote, or Whisper weights by name (whisper-base), id or folder.

    The npz holds `paths` [N], `model`, `fingerprint` and `embeddings` [N, D] float32. With --frames it holds, instead
    of the embeddings, `frames` [T, D] of all files one after another, `times_s` [T] (centre of each frame, from the
    start of its file) and `offsets` [N + 1]: file i has the rows offsets[i] to offsets[i + 1].
    """
    import numpy as np

    from uniwhisper.embed import load
    from uniwhisper.files import atomic_path

    encoder = load(model, precision=precision)
    arrays = _frames(encoder, files) if frames else _vectors(encoder, files)
    paths = np.array([path.as_posix() for path in files])
    with atomic_path(out) as temporary, temporary.open("wb") as file:
        np.savez(file, paths=paths, model=encoder.name, fingerprint=encoder.fingerprint, **arrays)
    for name, array in arrays.items():
        click.echo(f"{name} {list(array.shape)} {array.dtype}")
    click.echo(out)


def _vectors(encoder: AudioEmbedder, files: Sequence[Path]) -> dict[str, Any]:
    import numpy as np

    parts = [encoder.embed(part) for part in _parts(files)]
    return {"embeddings": np.concatenate(parts)}


def _frames(encoder: AudioEmbedder, files: Sequence[Path]) -> dict[str, Any]:
    import numpy as np

    timed = [one for part in _parts(files) for one in encoder.timed_frames(part)]
    return {
        "frames": np.concatenate([one.values for one in timed]),
        "times_s": np.concatenate([one.times_s for one in timed]),
        "offsets": np.cumsum([0, *(len(one.values) for one in timed)]),
    }


def _parts(files: Sequence[Path]) -> Iterator[Sequence[Path]]:
    """Yield the files a few at a time, showing progress on a terminal."""
    parts = [files[start : start + _FILES_PER_CALL] for start in range(0, len(files), _FILES_PER_CALL)]
    with click.progressbar(parts, label="embedding", file=sys.stderr) as bar:
        yield from bar
