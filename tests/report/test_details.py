from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, f1_score

from uniwhisper.errors import ReportError
from uniwhisper.evaluate.predictions.kinds import ClipPredictions, SegmentPredictions, TextPredictions
from uniwhisper.evaluate.results import load_predictions, read_results
from uniwhisper.report.details import MAX_MATRIX_CLASSES, read_details

from .inputs import PAPER, make_results


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scores = dict.fromkeys(("gtzan", "voxceleb1", "desed", "fsd50k", "librispeech_100h"), (0.4, 0.6))
    return make_results(tmp_path / "one", scores, tasks=PAPER)


def test_confusions_are_scikit_learns_added_over_seeds_and_folds(folder: Path) -> None:
    results = read_results(folder)
    stored = load_predictions(results, ["gtzan"])["gtzan"]
    assert isinstance(stored, ClipPredictions)
    assert stored.knn is not None
    knn, probe = read_details([results], ["gtzan"]).confusions
    expected = sum(confusion_matrix(stored.truth, seed, labels=range(10)) for seed in stored.probe)
    for one, matrix in ((probe, expected), (knn, confusion_matrix(stored.truth, stored.knn, labels=range(10)))):
        found = np.zeros((10, 10), dtype=int)
        for cell in one.cells:
            found[cell.truth, cell.guess] = cell.count
        np.testing.assert_array_equal(found, matrix)
        assert list(one.totals) == matrix.sum(axis=1).tolist()
        np.fill_diagonal(found, 0)
        assert one.pairs[0].count == found.max()
        assert [pair.count for pair in one.pairs] == sorted((pair.count for pair in one.pairs), reverse=True)
        assert all(pair.truth != pair.guess for pair in one.pairs)
    assert (knn.num_seeds, probe.num_seeds) == (1, 3)


def test_many_classes_have_pairs_and_no_matrix(folder: Path) -> None:
    knn, probe = read_details([read_results(folder)], ["voxceleb1"]).confusions
    assert len(probe.classes) == 120 > MAX_MATRIX_CLASSES
    assert not knn.cells
    assert not probe.cells
    assert len(probe.pairs) == 15


def test_class_scores_equal_scikit_learns(folder: Path) -> None:
    results = read_results(folder)
    segments, ranked = read_details([results], ["desed", "fsd50k"]).class_scores
    stored = load_predictions(results, ["desed", "fsd50k"])
    frames, clips = stored["desed"], stored["fsd50k"]
    assert isinstance(frames, SegmentPredictions)
    assert isinstance(clips, ClipPredictions)
    scores = np.mean([f1_score(frames.truth, seed > 0.5, average=None) for seed in frames.probe], axis=0)
    np.testing.assert_allclose(np.array(segments.values[0], dtype=float), scores)
    third = np.mean([average_precision_score(clips.truth[:, 3], seed[:, 3]) for seed in clips.probe])
    assert ranked.values[0] is not None
    assert ranked.values[0][3] == pytest.approx(third)
    assert (segments.metric, ranked.metric) == ("F1 of segments", "average precision")
    assert not read_details([results], ["desed", "fsd50k"]).confusions


def test_transcripts_are_the_worst_first_and_hold_both_texts(folder: Path) -> None:
    results = read_results(folder)
    (one,) = read_details([results], ["librispeech_100h"]).transcripts
    stored = load_predictions(results, ["librispeech_100h"])["librispeech_100h"]
    assert isinstance(stored, TextPredictions)
    errors, words = stored.word_errors("iwer")
    assert one.num_wrong == np.count_nonzero(errors[0])
    assert [utterance.num_errors for utterance in one.utterances] == sorted(errors[0].tolist(), reverse=True)[:12]
    ids = stored.ids.tolist()
    for utterance in one.utterances:
        i = ids.index(utterance.id)
        assert utterance.num_words == words[i]
        assert " ".join(" ".join(piece.said for piece in utterance.pieces).split()) == stored.reference[i]
        assert " ".join(" ".join(piece.heard for piece in utterance.pieces).split()) == stored.probe[0, i]


def test_predictions_that_are_gone_are_a_report_error(folder: Path) -> None:
    results = read_results(folder)
    (results.folder / results.task("gtzan").predictions).unlink()
    with pytest.raises(ReportError, match="predictions"):
        read_details([results], ["gtzan"])
