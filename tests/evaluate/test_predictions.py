"""Predictions: scores by the definition, checks, the digest, and the Parquet file, whole and damaged."""

from __future__ import annotations

from dataclasses import fields, replace

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

from evaluate.stored import ALL_KINDS, make_clips, make_kind, make_segments, make_texts
from uniwhisper.errors import ReportError
from uniwhisper.evaluate.predictions import ClipPredictions, SegmentPredictions, read_predictions, write_predictions


def over_folds(p, score):
    return np.mean([score(p.fold == f) for f in np.unique(p.fold)])


def test_scores_of_clips():
    p = make_clips(ranked=True, num_folds=3)
    truth = np.eye(4)[p.truth]
    assert p.metrics == ("accuracy", "macro_f1", "map")
    assert p.knn_score("accuracy") == pytest.approx(over_folds(p, lambda m: accuracy_score(p.truth[m], p.knn[m])))
    for s, found in enumerate(p.probe_scores("macro_f1")):
        expected = over_folds(p, lambda m, s=s: f1_score(p.truth[m], p.probe[s][m], average="macro"))
        assert found == pytest.approx(expected)
    for s, found in enumerate(p.probe_scores("map")):
        expected = over_folds(p, lambda m, s=s: average_precision_score(truth[m], p.probe_logits[s][m]))
        assert found == pytest.approx(expected)


def test_scores_of_several_labels_name_the_classes_that_are_left_out():
    p = make_clips(multilabel=True, num_folds=1)
    truth = p.truth.copy()
    truth[:, 2] = 0
    p = replace(p, truth=truth)
    others = [0, 1, 3]
    assert p.metrics == ("map",)
    assert p.knn_score("map") == pytest.approx(average_precision_score(truth[:, others], p.knn[:, others]))
    assert p.notes("map") == ("1 classes without a clip in test part 0 are in no mean there: \u00fc",)
    assert make_clips(multilabel=True).notes("map") == ()


def test_scores_of_segments():
    p = make_segments()
    for s, found in enumerate(p.probe_scores("segment_f1")):
        assert found == pytest.approx(f1_score(p.truth, p.probe[s] > 0.5, average="macro"))
    assert p.probe_scores("segment_f1_micro")[0] == pytest.approx(f1_score(p.truth, p.probe[0] > 0.5, average="micro"))
    assert p.knn_score("segment_f1") is None
    counts, start = p.counts(), 0
    for n, length in enumerate(p.segments_per_clip):
        part = slice(start, start + length)
        start += length
        hits = ((p.probe[:, part] > 0.5) & (p.truth[part] == 1)).sum(axis=1)
        np.testing.assert_array_equal(counts[:, n, :, 0], hits)
    silent = replace(p, truth=np.zeros_like(p.truth))
    assert silent.notes("segment_f1")[0].startswith("3 classes occur in no test segment")


def test_a_probability_of_exactly_the_threshold_is_no_prediction():
    p = SegmentPredictions(
        ids=["x"], classes=["c"], fold=[0], unit=[0], segments_per_clip=[2], truth=[[1], [1]], probe=[[[0.5], [0.51]]]
    )
    assert p.counts()[0, 0, 0].tolist() == [1, 0, 1]


def test_scores_of_texts_by_both_normalisers():
    p = make_texts(num_clips=2, num_seeds=1)
    p = replace(p, reference=["IT'S A CAT", "ON"], probe=[["it's a cat.", "on"]])
    assert p.metrics == ("iwer:lower-nopunct", "iwer:raw-lower")
    assert p.primary("iwer") == "iwer:lower-nopunct"
    assert p.probe_scores("iwer") == [1.0]
    assert p.probe_scores("iwer:raw-lower") == [0.75]
    raw = replace(p, normaliser="raw-lower")
    assert raw.metrics[0] == "iwer:raw-lower"
    assert raw.probe_scores("iwer") == [0.75]
    assert raw.notes("iwer") == ("words are compared after the normaliser 'raw-lower'",)
    assert raw.digest() != p.digest()


def test_word_error_rates_are_those_of_the_whole_corpus_and_clipped():
    p = replace(make_texts(num_clips=2, num_seeds=1), reference=["a b c", "a"], probe=[["a b c", "x y"]])
    assert p.probe_scores("iwer") == [0.5]
    assert replace(p, probe=[["x " * 20, "a"]]).probe_scores("iwer") == [0.0]


def test_equal_error_rate_of_two_classes():
    logits = np.stack([np.zeros(4), [-1, 2, 1, 3]], axis=1)[None]
    p = ClipPredictions(
        ids=list("abcd"),
        classes=["human", "spoof"],
        truth=[0, 0, 1, 1],
        fold=np.zeros(4),
        unit=np.arange(4),
        probe=[[0, 1, 1, 1]],
        probe_logits=logits,
    )
    assert p.probe_scores("eer") == [0.5]
    assert p.knn_score("eer") is None
    with pytest.raises(ReportError, match="two classes"):
        make_clips(ranked=True).probe_scores("eer")


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_unknown_metrics_are_named(kind):
    p = make_kind(kind)
    for call in (p.knn_score, p.probe_scores, p.primary):
        with pytest.raises(ReportError, match=f"expected a metric out of {p.metrics[0]}.*found 'bleu'"):
            call("bleu")
    if kind == "single":
        with pytest.raises(ReportError, match="found 'map'"):
            p.probe_scores("map")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": [0, 9]}, r"truth from 0 to 3, found 0 to 9"),
        ({"knn": [-1, 0]}, r"knn from 0 to 3"),
        ({"fold": [0]}, r"fold of shape \(2,\), found \(1,\)"),
        ({"probe": np.zeros((0, 2))}, r"probe of shape"),
        ({"probe": [0, 1]}, r"probe of shape"),
        ({"probe_logits": np.full((3, 2, 4), np.nan)}, "finite numbers in probe_logits"),
        ({"probe_logits": np.zeros((3, 2, 5))}, "probe_logits of shape"),
        ({"truth": ["a", "b"]}, "truth as an array of int64"),
        ({"ids": ["a", "\ud800"]}, "UTF-8"),
        ({"ids": [], "truth": []}, "at least one clip"),
    ],
)
def test_what_does_not_fit_together_is_refused(change, message):
    with pytest.raises(ReportError, match=message):
        replace(make_clips(num_clips=2), **change)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_digest_sees_every_value_and_nothing_else(kind, tmp_path):
    p = make_kind(kind)
    digests = {p.digest()}
    for field in fields(p):
        value = getattr(p, field.name)
        if not isinstance(value, np.ndarray):
            continue
        changed = value.copy()
        flat = changed.reshape(-1)
        if field.name == "segments_per_clip":
            flat[:2] = flat[:2][::-1]
            if (flat == value).all():
                flat[[0, 2]] = flat[[2, 0]]
        else:
            flat[0] = "x" if value.dtype.kind == "U" else 0 if flat[0] else 1
        digests.add(replace(p, **{field.name: changed}).digest())
    arrays = sum(isinstance(getattr(p, field.name), np.ndarray) for field in fields(p))
    assert len(digests) == 1 + arrays
    other_types = {"fold": p.fold.astype(np.int8), "ids": [*p.ids.tolist()], "probe": np.asfortranarray(p.probe)}
    assert replace(p, **other_types).digest() == p.digest()


def test_digest_tells_texts_apart_by_where_they_end():
    p = make_texts(num_clips=2, num_seeds=1)
    a, b = replace(p, reference=["ab", "c"]), replace(p, reference=["a", "bc"])
    assert a.digest() != b.digest()


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("num_clips", [1, 50])
def test_a_file_gives_back_what_was_written(kind, num_clips, tmp_path):
    p = make_kind(kind, num_clips=num_clips)
    path = tmp_path / "predictions" / "toy.parquet"
    write_predictions(path, p)
    found = read_predictions(path)
    assert type(found) is type(p)
    assert found.digest() == p.digest()
    for field in fields(p):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(p, field.name), strict=False)
    before = path.read_bytes()
    write_predictions(path, found)
    assert path.read_bytes() == before


def test_a_task_without_a_knn(tmp_path):
    for p in (make_clips(knn=False), make_clips(knn=False, multilabel=True), make_clips(knn=False, ranked=True)):
        write_predictions(tmp_path / "toy.parquet", p)
        found = read_predictions(tmp_path / "toy.parquet")
        assert found.knn is None
        assert found.knn_score(found.metrics[0]) is None
        assert found.digest() == p.digest()


def test_other_tools_read_the_file(tmp_path):
    path, p = tmp_path / "toy.parquet", make_clips(ranked=True, num_folds=1)
    write_predictions(path, p)
    frame = pd.read_parquet(path)
    assert frame["id"].tolist() == p.ids.tolist()
    assert (frame["truth"] == frame["knn"]).mean() == pytest.approx(p.knn_score("accuracy"))
    assert frame["probe"][0].tolist() == p.classes[p.probe[:, 0]].tolist()
    (row,) = duckdb.sql(f"SELECT avg((truth = probe[2])::INT), max(probe_logits[1][4]) FROM '{path}'").fetchall()
    assert row[0] == pytest.approx(p.probe_scores("accuracy")[1])
    assert row[1] == pytest.approx(float(p.probe_logits[0, :, 3].max()))
    write_predictions(path, make_segments())
    assert duckdb.sql(f"SELECT sum(len(truth)) FROM '{path}'").fetchall() == [(make_segments().truth.shape[0],)]


def test_missing_files_and_other_files_are_named(tmp_path):
    with pytest.raises(ReportError, match=r"none\.parquet.*uniwhisper evaluate"):
        read_predictions(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("not Parquet")
    with pytest.raises(ReportError, match=r"text\.parquet"):
        read_predictions(tmp_path / "text.parquet")
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "foreign.parquet")
    with pytest.raises(ReportError, match=r"foreign\.parquet.*without its metadata"):
        read_predictions(tmp_path / "foreign.parquet")


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_another_version_a_missing_column_and_changed_values_are_refused(kind, tmp_path):
    path = tmp_path / "toy.parquet"
    write_predictions(path, make_kind(kind))
    table = pq.read_table(path)
    for name in table.column_names:
        pq.write_table(table.drop_columns([name]), path)
        with pytest.raises(ReportError, match=r"toy\.parquet"):
            read_predictions(path)
    metadata = {key: value.replace(b'"version": 1', b'"version": 9') for key, value in table.schema.metadata.items()}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(ReportError, match=r"expected uniwhisper\.predictions version 1, found .*9"):
        read_predictions(path)
    pq.write_table(table.take(list(range(len(table)))[::-1]), path)
    with pytest.raises(ReportError, match="digest that the file states"):
        read_predictions(path)
    pq.write_table(table.slice(0, 0), path)
    with pytest.raises(ReportError, match=r"toy\.parquet"):
        read_predictions(path)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_damage_is_found(kind, tmp_path):
    path, rng = tmp_path / "toy.parquet", np.random.default_rng(0)
    p = make_kind(kind)
    write_predictions(path, p)
    whole = path.read_bytes()
    refused = same = 0
    for case in range(60):
        data = bytearray(whole)
        if case % 3 == 0:
            del data[int(rng.integers(0, len(data))) :]
        else:
            for place in rng.integers(0, len(data), 1 + case % 5):
                data[place] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(data))
        try:
            found = read_predictions(path)
        except ReportError as e:
            refused += "toy.parquet" in str(e)
        else:
            assert found.digest() == p.digest()  # it was a byte that no value depends on
            same += 1
    assert refused + same == 60
    assert refused > 40
