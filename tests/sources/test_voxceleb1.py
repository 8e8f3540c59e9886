from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run

from .conversion import FIXTURES

SLICES = Path(__file__).parents[3] / "shared" / "metadata" / "eval_VoxCeleb1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(FIXTURES / "voxceleb1" / "root", tmp_path / "root")
    return tmp_path / "root"


def test_all_spellings_of_the_list_of_people_say_the_same(root: Path) -> None:
    expected = dry_run("voxceleb1", root).clips
    lines = (root / "vox1_meta.csv").read_text().splitlines()
    quoted = "".join(f'"{line}"\r\n' for line in lines)
    commas = "ID,VGGFace1,Gender,Nationality,Set\n" + "".join(line.replace("\t", ",") + "\n" for line in lines[1:])
    for text in (quoted, commas):
        (root / "vox1_meta.csv").write_text(text, newline="")
        found = dry_run("voxceleb1", root)
        assert found.clips == expected
        assert found.rows["vox1_meta.csv"] == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("4 id10001/abcDEF_-123/00003.wav", "expected 1, 2 or 3 and <speaker>/<video>/<number>.wav"),
        ("1  abderrazak_chebbi/abderrazak_chebbi_01.wav", "expected 1, 2 or 3 and <speaker>"),
        ("1 id10999/abcDEF_-123/00003.wav", r"expected a speaker of vox1_meta\.csv, found id10999"),
    ],
)
def test_a_broken_line_is_named(root: Path, line: str, message: str) -> None:
    (root / "iden_split.txt").write_text(f"1 id10001/abcDEF_-123/00003.wav\n{line}\n")
    with pytest.raises(LayoutError, match=rf"iden_split\.txt:2: {message}"):
        dry_run("voxceleb1", root)


@pytest.mark.parametrize("line", ["id10002\tName\tm\tIndia", "x\tName\tm\tIndia\tdev", "id10002\tName\t?\tIndia\tdev"])
def test_a_broken_person_is_named(root: Path, line: str) -> None:
    (root / "vox1_meta.csv").write_text(f"VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n{line}\n")
    with pytest.raises(LayoutError, match=r"vox1_meta\.csv:2: expected"):
        dry_run("voxceleb1", root)


@pytest.mark.shared
@pytest.mark.skipif(not SLICES.is_dir(), reason="needs the real slices in ../shared/metadata")
def test_the_real_people_and_videos_are_read(root: Path) -> None:
    shutil.copyfile(SLICES / "vox1_meta.csv", root / "vox1_meta.csv")
    text = (SLICES / "voxceleb_person_videos.json").read_text()
    whole = re.findall(r'"(id1\d{4})": \[([^]]*)\]', text)
    pairs = [(person, video) for person, videos in whole for video in re.findall(r'"([^"]{11})"', videos)]
    (root / "iden_split.txt").write_text("".join(f"1 {person}/{video}/00001.wav\n" for person, video in pairs))
    found = dry_run("voxceleb1", root)
    assert found.rows == {"iden_split.txt": len(pairs), "vox1_meta.csv": 1251}
    assert len(found.clips) == len(pairs) > 200
    assert set(Counter(clip.annotation.attributes["gender"] for clip in found.clips)) == {"female", "male"}
    assert all(clip.annotation.metadata["nationality"] for clip in found.clips)
