from __future__ import annotations

import hashlib
import io
import json
import tarfile

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from tiny import tone
from uniwhisper.errors import ShardError
from uniwhisper.shards import members
from uniwhisper.types import Annotation, Clip

CLIP = Clip(
    id="a/b.c d",
    source="yard",
    path="/audio/x.wav",
    split="train",
    duration_s=1.0,
    domain="sound",
    annotation=Annotation(captions=("Ein Gru\u00df.",), votes={"dog": 2}),
    upstream_ids=("freesound:7",),
    start_s=12.5,
)

BARE = Clip(
    id="b", source="yard", path="/audio/b.wav", split="test", duration_s=1.0, domain="sound", annotation=Annotation()
)


@given(source=st.text(), clip_id=st.text())
def test_keys_are_plain_and_name_the_clip(source: str, clip_id: str) -> None:
    key = members.clip_key(source, clip_id)
    assert key.isascii()
    assert not set(key) & set("./\\ \t\n")
    assert not key.startswith("_")
    assert len(f"{key}.flac") <= 100
    assert key == members.clip_key(source, clip_id) != members.clip_key(source, clip_id + "x")
    assert key.endswith(f"{members.clip_hash(source, clip_id):016x}")


def test_key_shows_the_id() -> None:
    assert members.clip_key("yard", "a/b.c d").startswith("a_b_c_d-")
    assert members.clip_key("yard", "\u00fc").startswith("clip-")
    assert len({members.clip_key("yard", text) for text in ("a.b", "a/b", "a_b", "A_b")}) == 4


def test_shards_of_odd_sources_are_told_apart() -> None:
    assert members.file_stem("esc50", "fold1") == "esc50-fold1"
    odd = {members.file_stem(source, "train") for source in ("a b", "a.b", "a/b", "a_b")}
    assert len(odd) == 4
    assert all(set("./ ").isdisjoint(stem) for stem in odd)


def test_sixteen_bit_samples_are_stored_exactly() -> None:
    pcm = np.arange(-(1 << 15), 1 << 15, dtype=np.int16)
    assert np.array_equal(members.to_pcm(pcm.astype(np.float32) / 32768), pcm)
    assert np.array_equal(members.decode_flac(members.encode_flac(pcm)), pcm)


def test_other_samples_are_rounded_to_the_nearest_step() -> None:
    wave = np.random.default_rng(0).uniform(-1, 0.9999, 10_000).astype(np.float32)
    error = np.abs(members.to_pcm(wave) / 32768 - wave)
    assert error.max() <= 2**-16 + 1e-9
    assert members.to_pcm(np.float32([1.0, -1.0, 0.0])).tolist() == [32767, -32768, 0]


def test_flac_is_sixteen_bit_mono_and_carries_the_md5_of_its_samples() -> None:
    pcm = members.to_pcm(tone(0.5, 440))
    data = members.encode_flac(pcm)
    info = soundfile.info(io.BytesIO(data))
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", 16_000, 1)
    assert data[26:42] == hashlib.md5(pcm.tobytes()).digest()
    assert data == members.encode_flac(pcm)


def test_every_flipped_byte_of_audio_is_noticed() -> None:
    data = bytearray(members.encode_flac(members.to_pcm(tone(0.5, 440))))
    for place in np.random.default_rng(0).integers(len(data) // 10, len(data), 40).tolist():
        data[place] ^= 1
        with pytest.raises(ShardError, match="cannot be decoded"):
            members.decode_flac(bytes(data))
        data[place] ^= 1


def test_only_our_kind_of_flac_is_decoded() -> None:
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros((100, 2)), 44_100, format="FLAC")
    with pytest.raises(ShardError, match="expected FLAC with one channel at 16000 Hz, found FLAC with 2 at 44100 Hz"):
        members.decode_flac(stream.getvalue())


def test_json_has_every_field_as_a_plain_value() -> None:
    pcm = members.to_pcm(tone(0.5, 440))
    full, bare = members.pack(CLIP, pcm), members.pack(BARE, pcm)
    row = json.loads(full.text)
    assert row == full.row
    assert row.keys() == json.loads(bare.text).keys()
    assert {type(value) for value in row.values()} == {str, float}
    assert [type(value) for value in row.values()] == [type(value) for value in bare.row.values()]
    assert row["duration_s"] == 0.5
    assert json.loads(row["annotation"]) == {"captions": ["Ein Gru\u00df."], "votes": {"dog": 2}}
    assert "/audio" not in full.text.decode()


def test_a_clip_comes_back_with_its_place_in_the_tar() -> None:
    member = members.pack(CLIP, members.to_pcm(tone(0.5, 440)))
    clip = members.member_clip(member.text, path="/s/a.tar", offset_bytes=512, num_bytes=9, where="here")
    assert (clip.path, clip.offset_bytes, clip.num_bytes, clip.start_s, clip.duration_s) == ("/s/a.tar", 512, 9, 0, 0.5)
    for name in ("id", "source", "split", "domain", "annotation", "upstream_ids"):
        assert getattr(clip, name) == getattr(CLIP, name)


def test_headers_say_nothing_but_name_and_size() -> None:
    stream = io.BytesIO(members.tar_header("a.flac", 5) + b"12345".ljust(512, b"\0") + members.TAR_END)
    with tarfile.open(fileobj=stream) as tar:
        (info,) = tar.getmembers()
        assert (info.name, info.size, info.mtime, info.uid, info.gid, info.mode) == ("a.flac", 5, 0, 0, 0, 0o644)
        assert (info.uname, info.gname) == ("", "")
    assert members.json_offset(512, 5) == 512 + 512 + 512
    assert [members.padded(size) for size in (0, 1, 512, 513)] == [0, 512, 512, 1024]
