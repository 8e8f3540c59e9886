"""Stage 1: training clips that share an identifier with an evaluation clip, or that a blacklist names.

Reads `Clip.upstream_ids` of both sides, so Libri-adhoc40 meets LibriSpeech by its utterances, URBAN-SED meets
UrbanSound8K and WavCaps, Clotho and LAION-Audio meet ESC-50, FSD50K, FSDKaggle2018 and Vocal Imitation by Freesound
ids, and AudioSet, AudioCaps and VGGSound meet DESED and VoxCeleb by YouTube ids (and spans, where both have them). A
clip of a published corpus also meets itself, by corpus and id. Ids in tables of one's own are file names and prove
nothing. Blacklists stand in for evaluation corpora that are not on this machine: those in `blacklists/` beside this
module name all Freesound sounds in ESC-50 (1,524) and UrbanSound8K (1,297).
"""

from __future__ import annotations

import csv
import functools
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from uniwhisper.dedup.twins import Twin, twin
from uniwhisper.errors import DedupError, ManifestError
from uniwhisper.identifiers import Upstream, freesound, parse, same_recording, youtube
from uniwhisper.sources import get_source, list_sources
from uniwhisper.types import Clip

__all__ = ["Entry", "Identifiers", "read_blacklist", "shipped_blacklists"]

Entry = tuple[str, str]
"""An identifier and the corpus that holds it."""

_SUBSETS = ("AudioSet", "FreeSound")
_VIDEO = re.compile(r"Y?(?P<id>[A-Za-z0-9_-]{11})(\.wav)?")
"""A recording of AudioSet as WavCaps names it: `Y`, the video's id, `.wav`. Source: blacklist files of
https://github.com/XinhaoMei/WavCaps (data/json_files/blacklist)."""


@dataclass(frozen=True, slots=True)
class _Owner:
    upstream: Upstream
    clip: Clip | None
    corpus: str


class Identifiers:
    """The identifiers of the evaluation side, ready to be asked about training clips."""

    def __init__(self, evaluation: Iterable[Clip], blacklists: Iterable[Entry] = ()) -> None:
        """Index the clips' identifiers and the blacklists' entries.

        Raises:
            ManifestError: An identifier is malformed; the message names its clip or blacklist.
        """
        self._owners: dict[tuple[str, str], list[_Owner]] = defaultdict(list)
        self._published: dict[tuple[str, str], Clip] = {}
        for clip in evaluation:
            for upstream in _upstreams(clip, "evaluation"):
                self._add(_Owner(upstream, clip, clip.source))
            if _is_published(clip.source):
                self._published.setdefault((clip.source, clip.id), clip)
        for text, corpus in blacklists:
            self._add(_Owner(_parsed(text, f"blacklist of {corpus}"), None, corpus))

    def _add(self, owner: _Owner) -> None:
        self._owners[owner.upstream.namespace, owner.upstream.key].append(owner)

    def twin_of(self, clip: Clip) -> Twin | None:
        """Return the first evaluation clip that is the same recording as `clip`, or that a blacklist names.

        A clip of the same corpus and id comes first, then one that is there, then one that is only listed.

        Raises:
            ManifestError: An identifier of the clip is malformed; the message names the clip.
        """
        same = self._published.get((clip.source, clip.id))
        hits = [owner for upstream in _upstreams(clip, "training") for owner in self._matching(upstream)]
        corpora = {owner.corpus for owner in hits} | ({same.source} if same else set())
        if same is not None:
            return twin(clip, same, "identifier", f"both are {clip.id} of {clip.source}", corpora)
        for owner in hits:
            if owner.clip is not None:
                return twin(clip, owner.clip, "identifier", f"both come from {_name(owner.upstream)}", corpora)
        if not hits:
            return None
        owner = hits[0]
        return Twin(
            removed_id=clip.id,
            removed_source=clip.source,
            removed_path=clip.path,
            kept_id="",
            kept_source=owner.corpus,
            kept_path="",
            stage="identifier",
            reason=f"{_name(owner.upstream)} is on the blacklist of {owner.corpus}",
            score=1.0,
            corpora=tuple(sorted(corpora)),
        )

    def _matching(self, upstream: Upstream) -> Iterator[_Owner]:
        for owner in self._owners.get((upstream.namespace, upstream.key), ()):
            if same_recording(upstream, owner.upstream):
                yield owner


def _name(upstream: Upstream) -> str:
    return f"{upstream.namespace}:{upstream.key}"


@functools.cache
def _is_published(source: str) -> bool:
    """Return whether `source` is a corpus whose ids its publisher gives, and not a table, folder or set of tars."""
    return source in list_sources() and "own" not in get_source(source).SPEC.uses


def _upstreams(clip: Clip, side: str) -> Iterator[Upstream]:
    """Yield the clip's identifiers; of a training utterance of LibriSpeech also its reader.

    LibriCount mixes utterances of LibriSpeech and names their readers alone, so a reader is all that can be compared.
    """
    for text in clip.upstream_ids:
        upstream = _parsed(text, f"{side} clip {clip.id!r} of {clip.source!r}")
        yield upstream
        if side == "training" and upstream.namespace == "librispeech":
            yield Upstream(namespace="librispeech_speaker", key=upstream.key.partition("-")[0])


def _parsed(text: str, where: str) -> Upstream:
    try:
        return parse(text)
    except ManifestError as e:
        raise ManifestError(f"{where}: {e}") from e


def shipped_blacklists(corpora: Sequence[str] | None = None) -> list[Entry]:
    """Return the entries of the blacklists in the package; of the named corpora only, where some are named.

    Raises:
        DedupError: There is no blacklist of one of the corpora.

    Source: column `src_file` of meta/esc50.csv, https://github.com/karolpiczak/ESC-50; column `fsID` of
    UrbanSound8K.csv 1.0, https://urbansounddataset.weebly.com/urbansound8k.html.
    """
    folder = resources.files("uniwhisper.dedup") / "blacklists"
    files = {file.name.removesuffix(".csv"): file for file in folder.iterdir() if file.name.endswith(".csv")}
    missing = sorted(set(corpora or ()) - set(files))
    if missing:
        raise DedupError(f"expected blacklists out of {', '.join(sorted(files))}; found {', '.join(missing)}")
    wanted = sorted(files if corpora is None else set(corpora))
    return [entry for name in wanted for entry in _csv_entries(files[name].read_text(encoding="utf-8"), f"{name}.csv")]


def read_blacklist(path: Path) -> list[Entry]:
    """Return the entries of a blacklist.

    It is a CSV with a column `upstream_id` (such as `freesound:123`) or `id` (a Freesound number, or a recording of
    AudioSet named as in WavCaps), and maybe `corpus`; or JSON as WavCaps publishes it, an object of `AudioSet` and
    `FreeSound` with lists of such ids. Without a column, the corpus is the file's name.

    Raises:
        DedupError: The file is neither, holds no entry, or an identifier in it is malformed; the message says where.

    Source: https://github.com/XinhaoMei/WavCaps (data/json_files/blacklist/*.json) and
    https://github.com/Labbeti/aac-datasets (data/wavcaps/blacklist_*.csv).
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise DedupError(f"expected a blacklist (CSV or JSON in UTF-8) at {path}, found: {e}") from e
    entries = _json_entries(text, path) if path.suffix.lower() == ".json" else _csv_entries(text, str(path))
    if not entries:
        raise DedupError(f"{path}: expected a blacklist with at least one identifier, found none")
    return entries


def _json_entries(text: str, path: Path) -> list[Entry]:
    try:
        value: Any = json.loads(text)
    except json.JSONDecodeError as e:
        raise DedupError(f"{path}:{e.lineno}: expected JSON, found: {e.msg}") from e
    if not isinstance(value, dict) or set(value) - set(_SUBSETS):
        found = ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise DedupError(f"{path}: expected an object with lists of ids by {', '.join(_SUBSETS)}, found {found[:80]}")
    entries: list[Entry] = []
    for subset, ids in value.items():
        if not isinstance(ids, list):
            raise DedupError(f"{path}: expected a list of ids of {subset}, found {type(ids).__name__}")
        for number, sound_id in enumerate(ids):
            try:
                named = freesound(str(sound_id)) if subset == "FreeSound" else _video(str(sound_id))
            except ManifestError as e:
                raise DedupError(f"{path}: {subset}[{number}]: {e}") from e
            entries.append((named, path.stem))
    return entries


def _video(text: str) -> str:
    """Return the identifier of a recording of AudioSet; a ManifestError if there is none in `text`."""
    match = _VIDEO.fullmatch(text.strip())
    return youtube(match["id"] if match else text)


def _csv_entries(text: str, name: str) -> list[Entry]:
    rows = csv.DictReader(text.splitlines())
    columns = rows.fieldnames or []
    column = next((column for column in ("upstream_id", "id") if column in columns), None)
    if column is None:
        raise DedupError(f"{name}:1: expected the column upstream_id or id, found {', '.join(columns) or 'nothing'}")
    entries: list[Entry] = []
    try:
        for row in rows:
            cell = (row[column] or "").strip()
            if column == "upstream_id":
                parse(cell)
            else:
                cell = freesound(cell) if cell.isdigit() else _video(cell)
            entries.append((cell, row.get("corpus") or Path(name).stem))
    except (csv.Error, ManifestError) as e:
        raise DedupError(f"{name}:{rows.line_num}: {e}") from e
    return entries
