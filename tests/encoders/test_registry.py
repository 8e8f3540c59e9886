"""The folder as the registry: names, who claims what, what an unknown name is told."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import SHARED
from uniwhisper.encoders import list_encoders, load_encoder
from uniwhisper.encoders._family import find, is_hub_id
from uniwhisper.errors import ConfigError, EncoderError, WeightsError
from uniwhisper.sources import list_sources

ModelOf = Callable[[str], Path]
PAPER = ("wav2vec2-large", "hubert-large", "wavlm-large", "beats-iter3", "clap-htsat", "whisper-large-v3")
# Corpora that no source of ours reads.
FOREIGN = {
    "acav100m", "babel", "common_voice", "freesound", "libri_light", "multilingual_librispeech", "speech_commands_v2",
    "voxlingua107", "voxpopuli",
}  # fmt: skip


def test_names_are_unique_and_complete() -> None:
    families = list_encoders()
    names = [f.name for f in families]
    assert len(set(names)) == len(names)
    spellings = [s for f in families for m in f.models for s in (m.name, m.hub_id, *m.aliases) if s]
    assert len(set(spellings)) == len(spellings)
    for family in families:
        assert family.about
        for model in family.models:
            assert model.title
            assert not model.training_known or model.trained_on or not model.hub_id


def test_every_baseline_of_the_paper_has_a_name() -> None:
    models = [m for f in list_encoders() for m in f.models]
    assert all(find(models, name) for name in PAPER)


@pytest.mark.shared
def test_the_names_are_those_of_the_published_table() -> None:
    path = SHARED / "spec" / "paper_tables" / "table3_scores.csv"
    if not path.is_file():
        pytest.skip("needs the reference pack beside the repository")
    with path.open() as file:
        columns = {row["model"] for row in csv.DictReader(file)}
    # the rest are the paper's own trained models
    assert columns - set(PAPER) == {"uniwhisper", "clap-uni", "whisper-uni-1", "whisper-uni-3"}


def test_corpora_have_the_names_of_our_sources() -> None:
    seen = {corpus for f in list_encoders() for m in f.models for corpus in m.trained_on}
    assert seen - set(list_sources()) <= FOREIGN
    assert set(list_sources()) & FOREIGN == set()
    assert {"librispeech", "audioset", "laion_audio", "vggsound", "gigaspeech", "mtg_jamendo"} <= seen


def test_listing_loads_no_wrapped_library() -> None:
    code = (
        "import sys; from uniwhisper.encoders import list_encoders; assert list_encoders(); "
        "print([m for m in ('transformers', 'opensmile') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_told_what_is_spelt_alike() -> None:
    with pytest.raises(EncoderError, match=r"found 'wavlm-larg'\. Did you mean wavlm-large") as caught:
        load_encoder("wavlm-larg")
    assert "whisper: whisper-tiny" in str(caught.value)
    assert "path/to/BEATs_iter3.pt" in str(caught.value)


def test_a_folder_of_another_kind_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(EncoderError, match="model_type 'bert', which no family reads"):
        load_encoder(str(tmp_path))


def test_an_option_of_another_family_is_refused(model_of: ModelOf) -> None:
    with pytest.raises(ConfigError, match=r"frames='encoder': the family wav2vec2 of .* has no such option"):
        load_encoder(str(model_of("wavlm-base")), frames="encoder")
    with pytest.raises(ConfigError, match="layer=1: the family clap"):
        load_encoder("clap-htsat", layer=1)
    with pytest.raises(ConfigError, match="layer=1: the family whisper"):
        load_encoder("whisper-tiny", layer=1)


def test_a_hub_id_that_no_family_lists_is_decided_by_its_configuration(
    model_of: ModelOf, test_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIWHISPER_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"configuration of 'somebody/speech'.*encoders/somebody--speech"):
        load_encoder("somebody/speech")
    placed = test_home / "encoders" / "somebody--speech"
    placed.parent.mkdir(exist_ok=True)
    placed.symlink_to(model_of("hubert-base"))
    try:
        encoder = load_encoder("somebody/speech")
    finally:
        placed.unlink()
    assert encoder.dim == 32


def test_a_name_takes_the_files_placed_for_its_repository(
    model_of: ModelOf, test_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIWHISPER_OFFLINE", "1")
    placed = test_home / "encoders" / "facebook--wav2vec2-large-100k-voxpopuli"
    placed.parent.mkdir(exist_ok=True)
    placed.symlink_to(model_of("wav2vec2-large"))
    try:
        by_name, by_id = load_encoder("wav2vec2-large"), load_encoder("facebook/wav2vec2-large-100k-voxpopuli")
    finally:
        placed.unlink()
    assert by_name.fingerprint == by_id.fingerprint
    assert by_name.trained_on == by_id.trained_on == ("voxpopuli",)  # type: ignore[attr-defined]
    assert by_name.training_known is True  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["hubert-large", "wavlm-large", "clap-htsat", "ast", "dasheng-base"])
def test_absent_weights_are_an_error_that_says_what_to_place_where(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIWHISPER_OFFLINE", "1")
    with pytest.raises(WeightsError) as caught:
        load_encoder(name)
    hub_id = find([m for f in list_encoders() for m in f.models], name).hub_id  # type: ignore[union-attr]
    text = str(caught.value)
    for part in (hub_id, "UNIWHISPER_OFFLINE=1", "encoders/" + hub_id.replace("/", "--"), "pytorch_model.bin"):
        assert part in text


def test_an_incomplete_folder_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "hubert"}')
    with pytest.raises(WeightsError, match=r"expected model\.safetensors .* found config\.json"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a/b", True), ("a/b/c", False), ("./a", False), ("~/a", False), ("a", False), ("a/b.pt", False), ("/a", False)],
)
def test_hub_ids_are_told_from_paths(name: str, expected: bool) -> None:
    assert is_hub_id(name) is expected
