from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from checkpoint.saved import KEY, save_steps, state_of
from uniwhisper.checkpoint import CheckpointWriter, best_checkpoint, latest_checkpoint, read_state, run_folder, writer
from uniwhisper.errors import CheckpointError
from uniwhisper.files import content_hash, read_json, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_where(tmp_path: Path) -> None:
    (folder,) = save_steps(tmp_path / "checkpoints", 500)
    assert folder == tmp_path / "checkpoints" / "step_0000500" == latest_checkpoint(tmp_path / "checkpoints")
    assert names(folder) == ["DONE", "state.json", "tensors_00001_of_00001.safetensors"]
    assert names(tmp_path / "checkpoints") == ["step_0000500"]
    assert (folder / "DONE").read_text() == KEY + "\n"
    document = read_json(folder / "state.json")
    assert set(document) == {"format", "version", "key", "step", "files", "state", "sha256"}
    assert (document["step"], document["state"]) == (500, state_of(500))
    assert read_state(folder, key=KEY) == state_of(500)


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        assert latest_checkpoint(folder) is None
        assert best_checkpoint(folder) is None


def test_the_newest_is_found_by_number_not_by_name(tmp_path: Path) -> None:
    save_steps(tmp_path, 9_999_999, 10_000_000)
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert latest.name == "step_10000000"


def test_only_the_newest_are_kept_and_a_step_is_replaced(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2, 3, 3, 10)
    assert names(tmp_path) == ["step_0000003", "step_0000010"]


def test_the_best_is_kept_beside_the_newest_and_survives_a_new_writer(tmp_path: Path) -> None:
    with CheckpointWriter(tmp_path, key=KEY, keep=1) as saving:
        for step, score in ((1, 0.2), (2, 0.7), (3, 0.5)):
            saving.save(step, {}, {})
            saving.wait()
            saving.note_score(step, score)
    assert names(tmp_path) == ["scores.json", "step_0000002", "step_0000003"]
    save_steps(tmp_path, 4, 5, keep=1)
    assert names(tmp_path) == ["scores.json", "step_0000002", "step_0000005"]
    assert best_checkpoint(tmp_path) == tmp_path / "step_0000002"
    assert latest_checkpoint(tmp_path) == tmp_path / "step_0000005"
    with CheckpointWriter(tmp_path, key=KEY, keep=1) as saving:
        saving.note_score(5, 0.9)
        saving.save(6, {}, {})
    assert names(tmp_path) == ["scores.json", "step_0000005", "step_0000006"], "the best so far was 2, and is now 5"


def test_a_score_noted_before_its_checkpoint_counts_and_one_without_does_not(tmp_path: Path) -> None:
    with CheckpointWriter(tmp_path, key=KEY, keep=1) as saving:
        saving.note_score(1, 0.5)
        saving.note_score(77, 0.9)
        saving.save(1, {}, {})
        saving.save(2, {}, {})
        saving.save(3, {}, {})
    assert names(tmp_path) == ["scores.json", "step_0000001", "step_0000003"]
    assert best_checkpoint(tmp_path) == tmp_path / "step_0000001"


def test_of_equal_scores_the_earliest_wins_and_scores_may_be_negative(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2, 3, keep=3)
    for step, score in ((3, -1.0), (2, -0.5), (1, -0.5)):
        run_folder.note_score(tmp_path, step, score)
    assert best_checkpoint(tmp_path) == tmp_path / "step_0000001"
    run_folder.note_score(tmp_path, 1, -2.0)
    assert best_checkpoint(tmp_path) == tmp_path / "step_0000002"
    assert read_json(tmp_path / "scores.json") == {"1": -2.0, "2": -0.5, "3": -1.0}


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused(tmp_path: Path, score: float) -> None:
    with pytest.raises(CheckpointError, match=r"step 3: expected a finite score"):
        run_folder.note_score(tmp_path, 3, score)


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 1}', '{"1": null}'])
def test_scores_that_cannot_be_read_are_named(tmp_path: Path, text: str) -> None:
    save_steps(tmp_path, 1)
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"expected a score by step in .*scores\.json.*Remove it"):
        best_checkpoint(tmp_path)


def test_a_checkpoint_without_done_is_not_the_newest(tmp_path: Path) -> None:
    older, newer = save_steps(tmp_path, 1, 2)
    (newer / "DONE").unlink()
    assert latest_checkpoint(tmp_path) == older
    with pytest.raises(CheckpointError, match=r"expected a complete checkpoint at .*0002 \(with DONE\)"):
        read_state(newer, key=KEY)


def test_the_next_save_removes_what_interrupted_ones_left(tmp_path: Path) -> None:
    older, newer = save_steps(tmp_path, 1, 2)
    newer.rename(tmp_path / ".step_0000002.part")  # complete, but it never got its name
    (tmp_path / ".step_0000009.part").mkdir()
    (tmp_path / ".step_0000001.replaced").mkdir()
    assert latest_checkpoint(tmp_path) == older
    save_steps(tmp_path, 3)
    assert names(tmp_path) == ["step_0000001", "step_0000003"]


def test_a_checkpoint_that_lost_its_name_while_it_was_replaced_still_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any) -> None:
        raise PermissionError("no")

    (folder,) = save_steps(tmp_path, 4, keep=1)
    aside = folder.rename(tmp_path / ".step_0000004.replaced")
    assert latest_checkpoint(tmp_path) == aside
    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_pieces", fails)
        with pytest.raises(CheckpointError, match=r"step 5 failed.*\.step_0000004\.replaced is still good"):
            save_steps(tmp_path, 5, keep=1)
    assert read_state(aside, key=KEY) == state_of(4)
    save_steps(tmp_path, 4, keep=1)
    assert names(tmp_path) == ["step_0000004"]


def test_a_checkpoint_in_use_gives_way_by_name_and_its_rest_is_left_to_the_next_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_steps(tmp_path, 1, keep=1)
    real = run_folder.shutil.rmtree

    def busy(path: Path, **options: Any) -> None:
        if path.name == ".step_0000001.part" and not options.get("ignore_errors"):
            raise OSError("Directory not empty")
        if path.name != ".step_0000001.part":
            real(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder.shutil, "rmtree", busy)
        save_steps(tmp_path, 2, keep=1)
        assert latest_checkpoint(tmp_path) == tmp_path / "step_0000002"
        with pytest.raises(CheckpointError, match=r"Directory not empty.*step_0000002 is still good"):
            save_steps(tmp_path, 3, keep=1)
    save_steps(tmp_path, 3, keep=1)
    assert names(tmp_path) == ["step_0000003"]


def test_another_run_is_refused(tmp_path: Path) -> None:
    (folder,) = save_steps(tmp_path, 1)
    with pytest.raises(CheckpointError, match=r"kkkkkkkk there, other here.*Use another --out"):
        read_state(folder, key="other")


@pytest.mark.parametrize("damage", ["cut", "missing", "changed", "added"])
def test_a_damaged_state_is_refused_with_the_way_back(tmp_path: Path, damage: str) -> None:
    _, folder = save_steps(tmp_path, 1, 2)
    path = folder / "state.json"
    document = read_json(path)
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_text(path.read_text()[:-40])
    elif damage == "changed":
        document["state"]["provenance"]["drawn"]["bells"] = 8
        write_json(path, document)
    else:
        write_json(path, document | {"more": 1})
    with pytest.raises(CheckpointError, match=r"state\.json.*Remove .*step_0000002 to go on from step_0000001"):
        read_state(folder, key=KEY)


def test_the_only_checkpoint_has_nothing_to_go_back_to(tmp_path: Path) -> None:
    (folder,) = save_steps(tmp_path, 1)
    (folder / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"Remove .*step_0000001, the only checkpoint, to begin again"):
        read_state(folder, key=KEY)


@pytest.mark.parametrize("change", [{"version": 2}, {"format": "other"}, None])
def test_another_format_is_refused(tmp_path: Path, change: dict[str, Any] | None) -> None:
    (folder,) = save_steps(tmp_path, 1)
    document = {name: value for name, value in read_json(folder / "state.json").items() if name != "sha256"}
    changed: Any = [] if change is None else document | change
    write_json(folder / "state.json", changed if change is None else changed | {"sha256": content_hash(changed)})
    with pytest.raises(
        CheckpointError, match=r"expected format 'uniwhisper-checkpoint', version 1, found .*another --out"
    ):
        read_state(folder, key=KEY)
