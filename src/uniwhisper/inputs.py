"""What a user names on the command line, as clips: manifests and tables of one's own, or the folder of a corpus."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from uniwhisper.errors import AudioError, LayoutError, ManifestError, SourceError
from uniwhisper.files import read_jsonl
from uniwhisper.manifest import check_clip, check_unique, read_manifest
from uniwhisper.sources import Context, get_source
from uniwhisper.sources.table import SUFFIXES, read_table
from uniwhisper.types import Clip

__all__ = ["Corpus", "open_corpus", "read_clips"]


def read_clips(paths: Sequence[Path], where: str, *, unique: bool = True) -> list[Clip]:
    """Return the clips of all manifests and tables, their audio paths absolute.

    Args:
        paths: `manifest.jsonl` files, folders with one, or tables (CSV, JSONL or Parquet, see `sources/table.py`).
        where: What a message calls them, such as `--data`.
        unique: Refuse two inputs with the same clip. Tables of different tasks may ask about the same clips.

    Raises:
        ManifestError: A path is none of these, a file is invalid, or two of them hold the same clip.
    """
    clips: list[Clip] = []
    for path in paths:
        clips += _read(path / "manifest.jsonl" if path.is_dir() else path, path, where)
    return list(check_unique(clips, where)) if unique else [check_clip(clip, where) for clip in clips]


def _read(file: Path, path: Path, where: str) -> list[Clip]:
    if file.is_file() and _is_manifest(file):
        return read_manifest(file)
    if file.is_file() and file.suffix.lower() in SUFFIXES:
        return read_table(file)
    raise ManifestError(
        f"{where}: expected a manifest.jsonl, a folder that holds one, or a table ({', '.join(SUFFIXES)}); "
        f"found {path if path.exists() else f'nothing at {path}'}. `uniwhisper convert` makes such a folder"
    )


def _is_manifest(file: Path) -> bool:
    """Return whether a file is a manifest: by its name, or because its first row is a clip and not a table's row."""
    if file.suffix.lower() != ".jsonl":
        return False
    if file.name == "manifest.jsonl":
        return True
    first = next(iter(read_jsonl(file)), None)
    return isinstance(first, dict) and "annotation" in first


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """A corpus folder that is being read."""

    clips: Iterator[Clip]
    """Checked clips with unique ids, as they are read; `duration_s` is 0 where only the audio would tell."""
    context: Context
    """Counts rows and drops while `clips` is read."""
    problem: str
    """Why the folder cannot be converted as it is, so that `clips` come from its annotations alone."""
    root: Path
    """The folder or file, resolved."""

    def rows(self) -> dict[str, int]:
        """Return annotation file, relative to the root -> rows read from it so far."""
        found = sorted(self.context.rows.items())
        return {self.root.name if path == self.root else path.relative_to(self.root).as_posix(): n for path, n in found}


@contextmanager
def open_corpus(name: str, root: Path) -> Iterator[Corpus]:
    """Yield the corpus of source `name` in `root`, without writing to it.

    It is read as for a conversion; audio that the source has to decode or render lies in a temporary folder. Where the
    first clip already fails, because audio is not there, annotations alone are read.

    Args:
        name: A source's name.
        root: The corpus folder, or the file for a source that reads one.

    Raises:
        SourceError: There is no such source, or its annotations cannot be read (also while `clips` is read).
        ManifestError: A row of a table cannot be read, or an id repeats (also while `clips` is read).
    """
    with tempfile.TemporaryDirectory(prefix="uniwhisper-") as scratch:
        context = Context(source=name, out_dir=Path(scratch))
        clips = _clips(name, root, context)
        try:
            first = next(clips, None)
            problem = ""
        except (AudioError, ManifestError, SourceError) as e:
            problem = str(e)
            context = Context(source=name, out_dir=Path(scratch), dry_run=True)
            clips = _clips(name, root, context)
            first = next(clips, None)
        begun = [] if first is None else [first]
        yield Corpus(clips=itertools.chain(begun, clips), context=context, problem=problem, root=root.resolve())


def _clips(name: str, root: Path, context: Context) -> Iterator[Clip]:
    if not root.exists():
        raise LayoutError(f"{name}: expected the corpus at {root}, found nothing there")
    source = get_source(name)
    clips, copies = itertools.tee(source.convert(root.resolve(), context))
    guesses = context.dry_run and "own" not in source.SPEC.uses  # an owner's annotations name files as they are
    finder = Context(source=name, out_dir=context.audio_dir)
    # A duration that only the audio would tell must not fail the check of everything else.
    checked = check_unique((replace(clip, duration_s=clip.duration_s or 1.0) for clip in copies), name)
    for clip, _ in zip(clips, checked, strict=True):
        yield _located(clip, finder) if guesses else clip


def _located(clip: Clip, finder: Context) -> Clip:
    """Return the clip with the audio file that is there, because annotations alone do not tell its format."""
    path = Path(clip.path)
    if clip.num_bytes or path.is_file():
        return clip
    return replace(clip, path=str(finder.audio(path.parent, path.name.removesuffix(".wav"))))
