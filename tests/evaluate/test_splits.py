"""No test clip, test group or test label takes part in a choice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniwhisper.errors import ConfigError, TaskError
from uniwhisper.evaluate.splits import carve_valid, make_plan
from uniwhisper.evaluate.tables import read_table


def parts(fold):
    return [set(part.tolist()) for part in (fold.train, fold.valid, fold.test)]


@pytest.mark.parametrize("first", [0, 1])
def test_folds_are_nested_and_cyclic(write_table, toy_rows, first):
    names = [f"fold{first + i}" for i in range(4)]
    task = read_table(write_table(toy_rows(48, names, num_groups=3)))
    plan = make_plan(task)
    assert plan.scheme == "4-fold"
    assert [fold.name for fold in plan.folds] == names
    for i, fold in enumerate(plan.folds):
        splits = np.array(task.splits)
        assert set(splits[fold.test]) == {names[i]}
        assert set(splits[fold.valid]) == {names[(i + 1) % 4]}
        assert set(splits[fold.train]) == set(names) - {names[i], names[(i + 1) % 4]}


def test_ten_folds_are_ordered_by_number(write_table, toy_rows):
    task = read_table(write_table(toy_rows(60, [f"fold{i}" for i in range(1, 11)])))
    assert [fold.name for fold in make_plan(task).folds][-2:] == ["fold9", "fold10"]


def test_two_folds_carve_a_validation_part_from_the_other(write_table, toy_rows):
    task = read_table(write_table(toy_rows(60, ["fold1", "fold2"], num_groups=5)))
    for fold in make_plan(task).folds:
        train, valid, test = parts(fold)
        assert len(valid) == 6
        assert train | valid | test == set(range(60))


def test_named_valid_is_kept_and_a_missing_one_is_carved_by_group(write_table, toy_rows):
    task = read_table(write_table(toy_rows(90, ["train", "train", "test"], num_groups=10)))
    plan = make_plan(task)
    train, valid, test = parts(plan.folds[0])
    assert plan.scheme == "train/test"
    assert train | valid | test == set(range(90))
    assert task.groups is not None
    assert not {task.groups[i] for i in train} & {task.groups[i] for i in valid}
    labels = np.array([task.labels[i][0] for i in sorted(valid)])
    assert {label: int((labels == label).sum()) for label in "abc"} == {"a": 4, "b": 4, "c": 4}
    named = read_table(write_table(toy_rows(90, ["train", "valid", "test"]), name="named.csv"))
    assert make_plan(named).scheme == "train/valid/test"
    np.testing.assert_array_equal(make_plan(named).folds[0].valid, np.flatnonzero(np.array(named.splits) == "valid"))


def test_one_training_group_is_carved_by_clip_and_said(write_table, toy_rows):
    plan = make_plan(read_table(write_table(toy_rows(60, ["train", "test"], num_groups=1))))
    assert any("set aside by clip" in note for note in plan.notes)


def test_a_group_on_both_sides_is_refused_dropped_or_allowed(write_table, toy_rows):
    rows = toy_rows(60, ["train", "valid", "test"], num_groups=3)
    rows[0]["group"] = rows[3]["group"] = "both"
    rows[6]["group"] = "both"
    task = read_table(write_table(rows))
    with pytest.raises(TaskError, match=r"1 group\(s\) both in test and outside it: both"):
        make_plan(task)
    dropped = make_plan(task, overlap="drop")
    assert len(dropped.folds[0].train) == len(make_plan(task, overlap="allow").folds[0].train) - 1
    assert 6 in dropped.folds[0].test
    assert not {0, 3} & set(np.concatenate([dropped.folds[0].train, dropped.folds[0].valid]).tolist())
    assert "2 clips left out" in dropped.notes[0]
    assert "leak allowed" in make_plan(task, overlap="allow").notes[0]
    with pytest.raises(ConfigError, match="expected overlap"):
        make_plan(task, overlap="ignore")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["train"], "expected clips with split 'test'"),
        (["test", "valid"], "expected clips with split 'train'"),
        (["fold1"], "at least two folds"),
        (["train", "fold1"], "found both"),
    ],
)
def test_impossible_splits_are_refused(write_table, toy_rows, splits, message):
    with pytest.raises(TaskError, match=message):
        make_plan(read_table(write_table(toy_rows(30, splits))))


def test_test_labels_change_nothing(write_table, toy_rows):
    task = read_table(write_table(toy_rows(90, ["train", "test"], num_groups=8)))
    changed = [("a",) if split == "test" else labels for labels, split in zip(task.labels, task.splits, strict=True)]
    before, after = make_plan(task).folds[0], make_plan(replace(task, labels=tuple(changed))).folds[0]
    assert parts(before) == parts(after)


def test_clips_of_a_class_without_training_clips_are_noted(write_table, toy_rows):
    rows = toy_rows(60, ["train", "test"])
    rows[3]["label"] = rows[4]["label"] = "new"
    assert make_plan(read_table(write_table(rows))).notes == (
        "2 of 30 clips of test have a class that is never trained on",
    )


@given(
    groups=st.lists(st.integers(0, 12), min_size=2, max_size=80),
    by_group=st.booleans(),
    seed=st.integers(0, 5),
    num_classes=st.integers(2, 4),
)
def test_carving_keeps_groups_whole_and_both_parts_filled(groups, by_group, seed, num_classes):
    labels = [(str(i % num_classes),) for i in range(len(groups))]
    names = [str(g) for g in groups] if by_group else None
    mask, whole = carve_valid(labels, names, seed=seed)
    assert 0 < mask.sum() < len(mask)
    again, _ = carve_valid(labels, names, seed=seed)
    np.testing.assert_array_equal(mask, again)
    if names is not None and whole:
        assert not {n for n, m in zip(names, mask, strict=True) if m} & {
            n for n, m in zip(names, mask, strict=True) if not m
        }
    if names is None and len(groups) >= 10 * num_classes:
        assert abs(mask.mean() - 0.2) < 0.06
        assert {labels[i] for i in np.flatnonzero(~mask)} == set(labels)
