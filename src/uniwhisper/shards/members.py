"""What stands in a shard: a tar of `<key>.flac` and `<key>.json` for every clip, byte for byte reproducible.

Turns clips and samples into members and back; reads and writes no files. Guarantees: headers say nothing but name and
size, keys are unique and hold no dot, and every JSON member has the same fields with values of the same plain types.

The last point is for other readers. `datasets` derives a schema from the first five members of the first shard; fields
that it has not seen there are lost, and a list that was empty in all five is an error later on. Hence lists and objects
(`annotation`, `upstream_ids`) are stored as JSON text within the member, and no field is ever left out.
Source: huggingface/datasets 5.2.0, packaged_modules/webdataset/webdataset.py, NUM_EXAMPLES_FOR_FEATURES_INFERENCE;
webdataset 1.0.2, tariterators.py, base_plus_ext (the key of a member ends at the first dot of its name).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile

from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.errors import ShardError
from uniwhisper.manifest import clip_from_json, clip_to_json
from uniwhisper.types import Clip

__all__ = [
    "BLOCK_BYTES",
    "TAR_END",
    "Member",
    "clip_hash",
    "clip_key",
    "decode_flac",
    "encode_flac",
    "file_stem",
    "json_offset",
    "pack",
    "member_clip",
    "padded",
    "tar_header",
    "to_pcm",
]

BLOCK_BYTES = tarfile.BLOCKSIZE
TAR_END = bytes(2 * BLOCK_BYTES)
"""Two empty blocks end a tar."""

_FULL_SCALE = 1 << 15
_KEY_CHARS = 60  # of a name of 100, which is what a plain tar header holds
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_-]+")
_TEXTS = ("id", "source", "split", "domain", "language", "speaker", "group", "license")


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A clip as it is stored: both files, and the row that describes them."""

    key: str
    flac: bytes
    text: bytes
    """The JSON member."""
    row: dict[str, Any]
    """The JSON member's fields."""


def clip_hash(source: str, clip_id: str) -> int:
    """Return 64 bits that stand for a clip of a source."""
    return int.from_bytes(hashlib.blake2b(f"{source}\0{clip_id}".encode(), digest_size=8).digest(), "big")


def clip_key(source: str, clip_id: str) -> str:
    """Return the name of the clip's members: its id as far as it is plain, and a hash that keeps names apart."""
    plain = _NOT_PLAIN.sub("_", clip_id).strip("_-")[:_KEY_CHARS]
    return f"{plain or 'clip'}-{clip_hash(source, clip_id):016x}"


def file_stem(source: str, split: str) -> str:
    """Return how the names of a source's shards begin; names that would clash get a hash of the source."""
    plain = _NOT_PLAIN.sub("_", source)
    if plain != source:
        plain += f"-{hashlib.blake2b(source.encode(), digest_size=4).hexdigest()}"
    return f"{plain}-{split}"


def to_pcm(wave: np.ndarray) -> np.ndarray:
    """Return 16-bit samples of a wave in [-1, 1], rounded to nearest without dither.

    What was 16-bit at 16 kHz comes out as it was; everything else is off by at most half a step, 2 ** -16, but for what
    lies above the largest sample, 1 - 2 ** -15.
    """
    return np.clip(np.rint(wave * np.float32(_FULL_SCALE)), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


def encode_flac(pcm: np.ndarray) -> bytes:
    """Return 16-bit samples as a FLAC file, 16 kHz mono, at libsndfile's default level: half a per cent above the best.

    The file ends in no metadata of its own, so equal samples give equal bytes with the same libFLAC.
    """
    stream = io.BytesIO()
    soundfile.write(stream, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def decode_flac(data: bytes) -> np.ndarray:
    """Return the 16-bit samples of a FLAC member.

    Raises:
        ShardError: It is damaged, or not FLAC at 16 kHz with one channel.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if (file.format, file.samplerate, file.channels) != ("FLAC", SAMPLE_RATE, 1):
                raise ShardError(
                    f"expected FLAC with one channel at {SAMPLE_RATE} Hz, found {file.format} with {file.channels} at "
                    f"{file.samplerate} Hz"
                )
            return file.read(dtype="int16")
    except soundfile.LibsndfileError as e:
        raise ShardError(f"expected a FLAC file, found what cannot be decoded: {e}") from e


def pack(clip: Clip, pcm: np.ndarray) -> Member:
    """Return the clip with its 16-bit samples as members of a shard."""
    flac = encode_flac(pcm)
    row = _row(clip, pcm, flac)
    return Member(key=clip_key(clip.source, clip.id), flac=flac, text=_text(row).encode(), row=row)


def member_clip(text: bytes, *, path: str, offset_bytes: int, num_bytes: int, where: str) -> Clip:
    """Return the clip of a JSON member; its audio is the FLAC member at `offset_bytes` of the tar `path`.

    Raises:
        ManifestError: The member is not one of ours; the message starts with `where`.
        ValueError: It is not JSON.
    """
    row = json.loads(text)
    fields = {name: row[name] for name in (*_TEXTS, "duration_s")}
    fields |= {"path": path, "offset_bytes": offset_bytes, "num_bytes": num_bytes}
    fields |= {name: json.loads(row[name]) for name in ("annotation", "upstream_ids")}
    return clip_from_json(fields, where)


def tar_header(name: str, num_bytes: int) -> bytes:
    """Return the header of a member, the same on every machine and day: owner 0, time 0, mode 644."""
    info = tarfile.TarInfo(name)
    info.size = num_bytes
    return info.tobuf(format=tarfile.USTAR_FORMAT)


def padded(num_bytes: int) -> int:
    """Return `num_bytes` rounded up to whole blocks of a tar."""
    return -(-num_bytes // BLOCK_BYTES) * BLOCK_BYTES


def json_offset(flac_offset: int, flac_num_bytes: int) -> int:
    """Return where a clip's JSON begins, which follows its FLAC."""
    return flac_offset + padded(flac_num_bytes) + BLOCK_BYTES


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _row(clip: Clip, pcm: np.ndarray, flac: bytes) -> dict[str, Any]:
    """Return the fields of the clip's JSON member; all of them are always there."""
    row = clip_to_json(clip)
    return {
        **{name: row.get(name, "") for name in _TEXTS},
        "duration_s": len(pcm) / SAMPLE_RATE,
        "start_s": float(clip.start_s),
        "upstream_ids": _text(list(clip.upstream_ids)),
        "annotation": _text(row["annotation"]),
        "pcm_sha256": hashlib.sha256(pcm.astype("<i2").tobytes()).hexdigest(),
        "flac_sha256": hashlib.sha256(flac).hexdigest(),
    }
