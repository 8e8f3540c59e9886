"""What a table must hold to be a task, and what is said when it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uniwhisper.errors import TaskError
from uniwhisper.evaluate.tables import read_table

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def test_reads_rows_in_order(write_table, toy_rows):
    task = read_table(write_table(toy_rows(12, ["train", "val", "TEST"], num_groups=2)))
    assert task.name == "toy"
    assert task.classes == ("a", "b", "c")
    assert task.splits[:9] == ("train",) * 3 + ("valid",) * 3 + ("test",) * 3
    assert task.groups is not None
    assert task.group_kind == "group"
    assert Path(task.clips[0].path).is_file()
    np.testing.assert_array_equal(task.targets(), np.arange(12) % 3)


def test_fold_column_with_numbers_serves_as_split(write_table):
    rows = [{"path": f"{i}.txt", "label": "ab"[i % 2], "fold": str(i % 3)} for i in range(12)]
    assert set(read_table(write_table(rows)).splits) == {"fold0", "fold1", "fold2"}


def test_split_wins_over_fold_and_speaker_is_a_group(write_table, toy_rows):
    rows = [{**row, "fold": "7", "speaker": "s"} for row in toy_rows(12, ["train", "test"])]
    task = read_table(write_table(rows))
    assert set(task.splits) == {"train", "test"}
    assert task.group_kind == "speaker"


def test_one_clip_with_two_labels_makes_the_task_multilabel(write_table, toy_rows):
    rows = toy_rows(12, ["train", "test"])
    rows[1]["label"] = "b; a;b"
    task = read_table(write_table(rows))
    assert task.multilabel
    assert task.labels[1] == ("b", "a")
    assert task.targets()[:3].tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]


def test_transcripts_as_labels_are_refused(write_table):
    rows = [{"path": f"{i}.txt", "label": f"sentence {i // 2 * 2 + i % 2}", "split": "train"} for i in range(40)]
    with pytest.raises(TaskError, match=r"40 distinct values in 40 clips.*transcripts or identifiers"):
        read_table(write_table(rows))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "eval"}, r"toy.csv:3: expected train, valid, test or fold<number> in 'split', found 'eval'"),
        ({"label": " "}, r"toy.csv:3: expected a value in the column 'label'"),
        ({"label": ";"}, r"toy.csv:3: expected labels separated by ';'"),
        ({"path": "c0.txt"}, r"expected each path once, found 1 repeated: c0.txt"),
        ({"path": "missing.txt"}, r"found 1 missing: .*missing.txt.*relative to the table's folder"),
    ],
)
def test_a_bad_row_is_named(write_table, toy_rows, change, message):
    rows = toy_rows(12, ["train", "test"])
    rows[1].update(change)
    with pytest.raises(TaskError, match=message):
        read_table(write_table(rows))


def test_a_missing_column_a_missing_table_and_one_class_are_named(write_table, toy_rows, tmp_path):
    with pytest.raises(TaskError, match="expected the columns path, label and split"):
        read_table(write_table([{"path": "a.txt", "label": "x"}]))
    with pytest.raises(TaskError, match="expected a CSV table at"):
        read_table(tmp_path / "none.csv")
    rows = [{**row, "label": "a"} for row in toy_rows(12, ["train", "test"])]
    with pytest.raises(TaskError, match="at least two classes"):
        read_table(write_table(rows))
    (tmp_path / "wide.csv").write_text("path,label,split\na.wav,x,train,more\n", encoding="utf-8")
    with pytest.raises(TaskError, match=r"wide.csv:2: expected 3 cells, found more"):
        read_table(tmp_path / "wide.csv")


def test_domain_comes_from_the_table_or_the_caller(write_table, toy_rows):
    rows = [{**row, "domain": "music"} for row in toy_rows(12, ["train", "test"])]
    table = write_table(rows)
    assert read_table(table).domain == "music"
    assert read_table(table, domain="speech").domain == "speech"
    with pytest.raises(TaskError, match="expected one domain"):
        read_table(table, domain="noise")


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the reference pack beside the repository")
def test_real_tables():
    read = {}
    for table in sorted(SHARED.glob("eval_*.csv")):
        if "asr" in table.name:
            with pytest.raises(TaskError, match="199 distinct values in 199 clips"):
                read_table(table)
        else:
            read[table.stem] = read_table(table)
    assert {name: (len(task.ids), len(task.classes)) for name, task in read.items()} == {
        "eval_esc50": (2000, 50),
        "eval_fsdd": (900, 10),
        "eval_librispeech_gender": (200, 2),
        "eval_ravdess": (1440, 8),
        "eval_soundfont_notes": (528, 11),
        "eval_spoken_commands": (400, 10),
        "eval_spoken_language": (918, 5),
        "eval_urbansound8k": (860, 10),
    }
