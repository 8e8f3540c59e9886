"""No test clip, test group or test label takes part in a choice, but where X-ARES's protocol asks for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniwhisper.errors import ConfigError, TaskError
from uniwhisper.evaluate.splits import carve_valid, make_plan
from uniwhisper.evaluate.tables import read_table
from uniwhisper.evaluate.task import KINDS, Task
from uniwhisper.types import Annotation, Clip


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


LAYOUTS = (("train", "test"), ("train", "valid", "test"), ("fold1", "fold2"), ("fold0", "fold1", "fold2", "fold3"))


def drawn_task(seed, size, names, kind, spread):
    """Return a random task; `spread` is about how many groups it has, in any number of parts each, 0: none stated."""
    rng = np.random.default_rng(seed)
    splits = (*names, *names, *rng.choice(names, size - 2 * len(names)).tolist())
    several = kind == "multilabel"
    labels = tuple(tuple(sorted(set(rng.choice(list("abc"), 2 if several else 1).tolist()))) for _ in splits)
    groups = tuple(str(group) for group in rng.integers(0, spread, size)) if spread else None
    return make_task(kind, splits, labels if kind in ("clip", "multilabel") else (), groups)


tasks = st.builds(
    drawn_task,
    seed=st.integers(0, 10_000),
    size=st.integers(8, 60),
    names=st.sampled_from(LAYOUTS),
    kind=st.sampled_from(KINDS),
    spread=st.sampled_from([0, 3, 10, 40]),
)


def make_task(kind, splits, labels, groups, *, source=""):
    clips = [
        Clip(id=str(i), source="x", path=f"/{i}.wav", split="", duration_s=1, domain="sound", annotation=Annotation())
        for i in range(len(splits))
    ]
    return Task(
        name="drawn",
        title="drawn",
        domain="sound",
        kind=kind,
        metric="accuracy",
        clips=tuple(clips),
        labels=labels,
        classes=tuple(sorted({label for each in labels for label in each})),
        splits=splits,
        groups=groups,
        group_kind="group" if groups else "",
        source=source,
        where="drawn",
    )


@given(task=tasks, overlap=st.sampled_from(["drop", "allow"]), seed=st.integers(0, 3))
def test_strict_parts_are_disjoint_and_no_tested_group_is_learnt_from(task, overlap, seed):
    try:
        plan = make_plan(task, seed=seed, overlap=overlap)
    except TaskError:
        assert overlap == "drop"  # every group is tested, and nothing is left to learn from
        return
    for fold in plan.folds:
        train, valid, test = parts(fold)
        assert train and valid and test  # noqa: PT018
        assert not train & valid and not (train | valid) & test  # noqa: PT018
        assert all((np.diff(part) > 0).all() for part in (fold.train, fold.valid, fold.test))
        if task.groups is not None and overlap == "drop":
            assert not {task.groups[i] for i in train | valid} & {task.groups[i] for i in test}
    again = make_plan(task, seed=seed, overlap=overlap)
    assert [parts(fold) for fold in again.folds] == [parts(fold) for fold in plan.folds]
    assert again.notes == plan.notes


@given(task=tasks, seed=st.integers(0, 3))
def test_strict_never_looks_at_the_answers_of_the_test_part(task, seed):
    if not task.labels or "test" not in task.splits:
        return
    changed = tuple(("a",) if split == "test" else one for one, split in zip(task.labels, task.splits, strict=True))
    try:
        before = make_plan(task, seed=seed, overlap="drop").folds[0]
    except TaskError:
        return
    assert parts(before) == parts(make_plan(replace(task, labels=changed), seed=seed, overlap="drop").folds[0])


@given(task=tasks)
def test_xares_is_its_own_choice(task):
    plan = make_plan(task, protocol="xares")
    splits = np.array(task.splits)
    folded = not set(task.splits) & {"train", "test"}
    assert [fold.name for fold in plan.folds] == (sorted(set(task.splits)) if folded else ["test"])
    for fold in plan.folds:
        everything = np.arange(len(splits))
        test = np.flatnonzero(splits == fold.name)
        np.testing.assert_array_equal(fold.test, test)
        np.testing.assert_array_equal(
            fold.train, np.setdiff1d(everything, test) if folded else np.flatnonzero(splits == "train")
        )
        own = np.flatnonzero(splits == "valid")
        np.testing.assert_array_equal(fold.valid, own if len(own) else test)
    chosen_on_test = any("best epoch is chosen on the test part" in note for note in plan.notes)
    assert chosen_on_test == ("valid" not in task.splits)
    if task.groups is not None:
        leaks = [
            {task.groups[i] for i in fold.train.tolist()} & {task.groups[i] for i in fold.test.tolist()}
            for fold in plan.folds
        ]
        assert sum("are trained on as well" in note for note in plan.notes) == sum(map(bool, leaks))


def test_known_corpora_drop_shared_groups_and_tables_refuse_them():
    splits, groups = ("train", "valid", "test") * 10, ("shared", "b", "shared", *(f"g{i}" for i in range(27)))
    labels = tuple(("ab"[i % 2],) for i in range(30))
    with pytest.raises(TaskError, match="both in test and outside it"):
        make_plan(make_task("clip", splits, labels, groups))
    plan = make_plan(make_task("clip", splits, labels, groups, source="esc50"))
    assert 0 not in plan.folds[0].train
    assert "1 clips left out" in plan.notes[0]
    with pytest.raises(TaskError, match="both in test and outside it"):
        make_plan(make_task("clip", splits, labels, groups, source="esc50"), overlap="error")


def test_a_validation_part_of_tested_groups_is_replaced():
    splits = ("train",) * 20 + ("valid",) * 10 + ("test",) * 10
    groups = tuple(f"t{i // 2}" for i in range(20)) + tuple(f"e{i % 5}" for i in range(10)) * 2
    task = make_task("clip", splits, tuple(("ab"[i % 2],) for i in range(40)), groups)
    plan = make_plan(task, overlap="drop")
    train, valid, _ = parts(plan.folds[0])
    assert train | valid == set(range(20))
    assert len(valid) == 4
    assert "too little is left of the validation part" in plan.notes[1]
    one_left = replace(task, groups=(*groups[:29], "v", *groups[30:]))
    kept_one = make_plan(one_left, overlap="drop")
    assert set().union(*parts(kept_one.folds[0])[:2]) == {*range(20), 29}, "what is left of it may train"


def test_tasks_without_labels_are_carved_by_group_alone():
    groups = tuple(f"g{i // 3}" for i in range(60))
    for kind in ("frame", "asr"):
        task = make_task(kind, ("train",) * 45 + ("test",) * 15, (), groups)
        train, valid, _ = parts(make_plan(task).folds[0])
        assert len(valid) == 9
        assert not {groups[i] for i in train} & {groups[i] for i in valid}
        alone = make_plan(make_task(kind, ("train",) * 45 + ("test",) * 15, (), None)).folds[0]
        assert len(alone.valid) == 9


def test_an_unknown_protocol_is_refused(write_table, toy_rows):
    with pytest.raises(ConfigError, match="expected protocol to be one of strict, xares; found 'fair'"):
        make_plan(read_table(write_table(toy_rows(12, ["train", "test"]))), protocol="fair")  # pyright: ignore[reportArgumentType]
