"""The probe against scikit-learn, against itself one at a time, and against leaks."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from evaluate.plain_xares import in_batches, train_plain
from uniwhisper import threads
from uniwhisper.errors import ConfigError, TaskError
from uniwhisper.evaluate.metrics import accuracy, mean_average_precision
from uniwhisper.evaluate.probes import ProbeConfig, XaresProbeConfig, train_probes
from uniwhisper.evaluate.probes.data import ClipData, Moments, Shuffle
from uniwhisper.evaluate.probes.models import StackedAdam, bce_residuals, cross_entropy_residuals, forward, gradients
from uniwhisper.evaluate.probes.xares import XaresStack, fit_xares
from uniwhisper.evaluate.splits import Fold
from uniwhisper.evaluate.task import XaresSettings

QUICK = ProbeConfig(seeds=2, learning_rates=(1e-2, 1e-1), batch_size=16, max_epochs=15)


def toy(num_clips=240, num_classes=4, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    targets = np.arange(num_clips) % num_classes
    centres = rng.normal(size=(num_classes, 6))
    features = (centres[targets] + noise * rng.normal(size=(num_clips, 6))) * 10 ** rng.uniform(-3, 3, 6) + 5
    return features.astype(np.float32), targets


def thirds(num_clips, shift=0):
    thirds = np.array_split(np.random.default_rng(9).permutation(num_clips), 3)
    train, valid, test = (np.sort(thirds[(i + shift) % 3]) for i in range(3))
    return Fold(name=f"fold{shift}", train=train, valid=valid, test=test)


@pytest.mark.parametrize("hidden_layers", [0, 1])
def test_agrees_with_logistic_regression(hidden_layers):
    features, targets = toy(noise=0.35)
    fold = thirds(len(targets))
    config = replace(QUICK, hidden_layers=hidden_layers, hidden_size=32, max_epochs=60)
    outcome = train_probes(features, targets, [fold], num_classes=4, config=config)[0]
    scaler = StandardScaler().fit(features[fold.train])
    reference = LogisticRegression().fit(scaler.transform(features[fold.train]), targets[fold.train])
    expected = reference.predict(scaler.transform(features[fold.test]))
    assert np.mean(expected == targets[fold.test]) > 0.9
    assert outcome.predictions.shape == (2, len(fold.test))
    for seed in outcome.predictions:
        assert np.mean(seed == expected) >= 0.95


@pytest.mark.parametrize("hidden_layers", [0, 1])
@pytest.mark.parametrize("multilabel", [False, True])
def test_together_equals_one_at_a_time(hidden_layers, multilabel):
    features, targets = toy(noise=1.0)
    if multilabel:
        targets = (np.random.default_rng(3).random((240, 4)) < 0.3).astype(np.uint8) | np.eye(4, dtype=np.uint8)[
            targets
        ]
    config = replace(QUICK, hidden_layers=hidden_layers, hidden_size=8)
    folds = [thirds(240, shift) for shift in range(3)]
    together = train_probes(features, targets, folds, num_classes=4, config=config)
    for fold, outcome in zip(folds, together, strict=True):
        alone = train_probes(features, targets, [fold], num_classes=4, config=config)[0]
        assert alone.learning_rate == outcome.learning_rate
        np.testing.assert_allclose(alone.valid_scores, outcome.valid_scores, atol=1e-3)
        np.testing.assert_allclose(alone.predictions, outcome.predictions, atol=1e-3)
    for i, rate in enumerate(config.learning_rates):
        single = replace(config, learning_rates=(rate,))
        alone = train_probes(features, targets, folds, num_classes=4, config=single)
        for one, outcome in zip(alone, together, strict=True):
            assert one.valid_scores[0] == pytest.approx(outcome.valid_scores[i], abs=1e-3)
            if outcome.learning_rate == rate:
                np.testing.assert_allclose(one.predictions, outcome.predictions, atol=1e-3)
    first_seed = train_probes(features, targets, folds, num_classes=4, config=replace(single, seeds=1))
    for one, many in zip(first_seed, alone, strict=True):
        np.testing.assert_allclose(one.predictions[0], many.predictions[0], atol=1e-3)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("hidden_layers", [0, 1])
def test_test_labels_and_test_features_reach_no_training(multilabel, hidden_layers):
    features, targets = toy(noise=1.0)
    if multilabel:
        targets = np.eye(4, dtype=np.uint8)[targets]
    fold = thirds(240)
    config = replace(QUICK, hidden_layers=hidden_layers, hidden_size=8)
    before = train_probes(features, targets, [fold], num_classes=4, config=config)[0]
    changed_targets, changed_features = targets.copy(), features.copy()
    changed_targets[fold.test] = changed_targets[fold.test][::-1]
    changed_features[fold.test[:40]] = 1e6
    after = train_probes(changed_features, changed_targets, [fold], num_classes=4, config=config)[0]
    assert after.learning_rate == before.learning_rate
    assert after.valid_scores == before.valid_scores
    np.testing.assert_array_equal(after.predictions[:, 40:], before.predictions[:, 40:])


def test_a_class_that_only_the_test_part_has_changes_nothing():
    features, targets = toy(noise=1.0)
    fold = thirds(240)
    before = train_probes(features, targets, [fold], num_classes=4, config=QUICK)[0]
    targets[fold.test[:5]] = 4
    after = train_probes(features, targets, [fold], num_classes=5, config=QUICK)[0]
    assert after.valid_scores == before.valid_scores
    np.testing.assert_array_equal(after.predictions, before.predictions)


def test_a_class_that_only_the_validation_part_has_is_survived():
    features, targets = toy()
    fold = thirds(240)
    targets[fold.valid[:5]] = 4
    outcome = train_probes(features, targets, [fold], num_classes=5, config=QUICK)[0]
    assert max(outcome.valid_scores) > 0.5
    assert not (outcome.predictions == 4).any()


def test_same_input_gives_the_same_output_and_constant_features_are_harmless():
    features, targets = toy()
    features[:, 0] = 3.25
    fold = thirds(240)
    first, second = (train_probes(features, targets, [fold], num_classes=4, config=QUICK)[0] for _ in range(2))
    np.testing.assert_array_equal(first.predictions, second.predictions)
    assert first.valid_scores == second.valid_scores


def test_early_stopping_keeps_the_best_epoch():
    """A rate that diverges after the first epochs must not ruin what was kept; nor may a rate beside it."""
    features, targets = toy(noise=1.5)
    fold = thirds(240)
    wild = replace(QUICK, learning_rates=(1e-2, 50.0), max_epochs=30)
    outcome = train_probes(features, targets, [fold], num_classes=4, config=wild)[0]
    calm = train_probes(features, targets, [fold], num_classes=4, config=replace(wild, learning_rates=(1e-2,)))[0]
    assert outcome.valid_scores[0] == pytest.approx(calm.valid_scores[0], abs=1e-6)


@pytest.mark.parametrize("change", [{"hidden_layers": 2}, {"seeds": 0}, {"learning_rates": ()}, {"weight_decay": -1.0}])
def test_bad_parameters(change):
    with pytest.raises(ConfigError, match="expected"):
        ProbeConfig(**change)


def test_scores_are_log_probabilities_that_agree_with_the_predictions():
    features, targets = toy(noise=1.0)
    fold = thirds(240)
    targets[fold.test[:5]] = 4  # a class that is never trained on
    plain = train_probes(features, targets, [fold], num_classes=5, config=QUICK)[0]
    assert plain.scores is None
    for config in (QUICK, XaresProbeConfig(seeds=2)):
        found = train_probes(features, targets, [fold], num_classes=5, config=config, want_scores=True)[0]
        assert found.scores is not None
        assert found.scores.shape == (2, len(fold.test), 5)
        assert found.scores.dtype == np.float32
        assert np.isfinite(found.scores).all()
        np.testing.assert_array_equal(found.scores.argmax(axis=-1), found.predictions)
        np.testing.assert_allclose(np.exp(found.scores).sum(axis=-1), 1, atol=1e-5)
    strict = train_probes(features, targets, [fold], num_classes=5, config=QUICK, want_scores=True)[0]
    np.testing.assert_array_equal(strict.predictions, plain.predictions)
    assert strict.scores is not None
    assert (strict.scores[..., 4] == -1e4).all()


def test_embeddings_that_are_not_finite_are_refused():
    features, targets = toy()
    features[17, 2] = np.nan
    with pytest.raises(TaskError, match=r"found NaN or infinity in row 17"):
        train_probes(features, targets, [thirds(240)], num_classes=4, config=QUICK)


def test_moments_in_pieces_equal_those_of_the_whole():
    rows = np.random.default_rng(0).normal(1e3, 1e-2, size=(100, 7)).astype(np.float32)
    rows[:, 3] = 5.5
    total = Moments(7)
    for part in np.split(rows, [1, 1, 40]):
        total.merge(Moments.of(part))
    mean, scale = total.finish()
    np.testing.assert_allclose(mean, rows.mean(axis=0, dtype=np.float64), rtol=1e-7)
    deviation = rows.std(axis=0, dtype=np.float64)
    np.testing.assert_allclose(scale, np.where(deviation < 1e-8, 1, deviation), rtol=1e-6)


@pytest.mark.parametrize("num_batches", [1, 2])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("multilabel", [False, True])
def test_gradients_equal_autograds(hidden, multilabel, num_batches):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    sizes = [(3, 6, 5), (3, 6)] if hidden else []
    parameters = [draw(*size) for size in [*sizes, (3, 4, 6 if hidden else 5), (3, 4)]]
    x, place = draw(num_batches, 7, 5), torch.tensor([0, num_batches - 1, 0])
    targets = (draw(3, 7, 4) > 0).double() if multilabel else torch.arange(21).view(3, 7) % 4
    found, hidden_values = forward(parameters, x, place)
    residuals_of = bce_residuals if multilabel else cross_entropy_residuals
    ours = gradients(parameters, x, place, residuals_of(found, targets), hidden_values)
    leaves = [parameter.clone().requires_grad_() for parameter in parameters]
    loss = torch.zeros((), dtype=torch.float64)
    for p in range(3):
        h = x[place[p]]
        if hidden:
            h = torch.relu(h @ leaves[0][p].T + leaves[1][p])
        logits = h @ leaves[-2][p].T + leaves[-1][p]
        torch.testing.assert_close(found[p], logits)
        if multilabel:
            loss = loss + torch.nn.functional.binary_cross_entropy_with_logits(logits, targets[p], reduction="sum")
        else:
            loss = loss + torch.nn.functional.cross_entropy(logits, targets[p], reduction="sum")
    for mine, theirs in zip(ours, torch.autograd.grad(loss, leaves), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_stacked_adam_equals_torchs(weight_decay):
    rates = [1e-1, 1e-1, 1e-2]
    stacked = [torch.randn(3, 4, 5), torch.randn(3, 4)]
    alone = [[parameter[p].clone() for parameter in stacked] for p in range(3)]
    ours = StackedAdam(stacked, rates, weight_decay=weight_decay)
    theirs = [torch.optim.AdamW(a, lr=rate, weight_decay=weight_decay) for a, rate in zip(alone, rates, strict=True)]
    going = [0, 1, 2]
    for step in range(12):
        if step == 6:
            ours.keep(torch.tensor([True, False, True]))
            stacked, going = [parameter[[0, 2]] for parameter in stacked], [0, 2]
        gradient = [torch.randn(3, 4, 5), torch.randn(3, 4)]
        for p in going:
            for parameter, its in zip(alone[p], gradient, strict=True):
                parameter.grad = its[p].clone()
            theirs[p].step()
        ours.step(stacked, [its[going] for its in gradient])
    for place, p in enumerate(going):
        for parameter, expected in zip(stacked, alone[p], strict=True):
            torch.testing.assert_close(parameter[place], expected, rtol=1e-5, atol=1e-6)


def xares_case(multilabel):
    features, targets = toy(num_clips=203, noise=1.0)
    rng = np.random.default_rng(1)
    if multilabel:
        targets = np.eye(4, dtype=np.uint8)[targets] | (rng.random((203, 4)) < 0.3)
    parts = np.array_split(rng.permutation(203), 3)
    folds = []
    for i in range(3):
        train = np.sort(np.concatenate([parts[j] for j in range(3) if j != i]))
        test = np.sort(parts[i])
        folds.append(Fold(name=f"fold{i}", train=train, valid=test, test=test))
    return features, targets, folds


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_xares_equals_a_plain_loop_of_torchs_own_layers(multilabel, dtype, tolerance):
    """Three folds of two sizes (135 and 136 clips: the last batches differ), two seeds, all trained together."""
    features, targets, folds = xares_case(multilabel)
    settings = XaresSettings(batch_size=32, epochs=4)
    data = ClipData(features, targets, folds, 4, "cpu", dtype)
    outcomes = fit_xares(data, XaresProbeConfig(seeds=2), settings, want_scores=True)
    x = torch.from_numpy(features).to(dtype)
    y = torch.from_numpy(targets).to(dtype if multilabel else torch.int64)
    metric = mean_average_precision if multilabel else accuracy
    for fold, outcome in zip(folds, outcomes, strict=True):
        scores = []
        for seed in range(2):
            shuffle = Shuffle(fold.train, seed)

            def batches(shuffle=shuffle):
                yield from ((x[rows], y[rows]) for rows in in_batches(shuffle.epoch(), 32))

            def score(model, fold=fold):
                logits = model(x[fold.valid]).numpy()
                return metric(targets[fold.valid], logits if multilabel else logits.argmax(axis=1))

            loss = torch.nn.BCEWithLogitsLoss() if multilabel else torch.nn.CrossEntropyLoss()
            plain = train_plain(6, 4, batches, score, loss=loss, seed=seed, epochs=4, dtype=dtype)
            logits = plain.model(x[fold.test]).detach().numpy()
            found = outcome.predictions[seed] if multilabel else outcome.scores[seed]
            expected = logits if multilabel else log_softmax(logits, axis=1)
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
            scores.append(plain.score)
        # rounding may swap two clips' ranks
        assert outcome.valid_scores == (pytest.approx(np.mean(scores), abs=100 * tolerance),)
        assert outcome.learning_rate == 1e-3


def test_xares_predicts_from_the_first_of_the_best_epochs():
    stack = XaresStack([0, 1], 3, 2, device="cpu")
    for epoch, scores in enumerate([(0.5, 0.2), (0.7, 0.2), (0.7, 0.1), (0.6, 0.3)]):
        for parameter in stack.parameters:
            parameter.fill_(epoch)
        for run, score in enumerate(scores):
            stack.look(run, score)
    assert stack.best_scores == [0.7, 0.3]
    for best in stack.best:
        assert (best[0] == 1).all()
        assert (best[1] == 3).all()
    features, targets, folds = xares_case(multilabel=False)
    outcomes = train_probes(features, targets, folds, num_classes=4, config=XaresProbeConfig(seeds=1))
    for fold, outcome in zip(folds, outcomes, strict=True):
        # these folds choose on their test part, so the score that chose is the score of the predictions
        assert outcome.valid_scores[0] == accuracy(targets[fold.test], outcome.predictions[0])


@pytest.mark.parametrize("change", [{"seeds": 0}, {"learning_rate": 0.0}, {"final_learning_rate": 1.0}])
def test_bad_xares_parameters(change):
    with pytest.raises(ConfigError, match="expected"):
        XaresProbeConfig(**change)


SCRIPT = """
import hashlib, numpy as np
from uniwhisper.evaluate.probes import ProbeConfig, XaresProbeConfig, train_probes
from uniwhisper.evaluate.splits import Fold
rng = np.random.default_rng(0)
targets = np.arange(400) % 7
features = rng.normal(size=(7, 300))[targets] + 3 * rng.normal(size=(400, 300))
rows = np.array_split(rng.permutation(400), 3)
folds = [Fold(name="x", train=rows[i], valid=rows[i - 1], test=rows[i - 2]) for i in range(2)]
found = []
for many in (targets, np.eye(7, dtype=np.uint8)[targets]):
    quick = ProbeConfig(max_epochs=2)
    for config in (quick, ProbeConfig(max_epochs=1, hidden_layers=1, hidden_size=64), XaresProbeConfig()):
        for outcome in train_probes(features.astype(np.float32), many, folds, num_classes=7, config=config,
                                    want_scores=True):
            found.append(outcome.predictions.tobytes())
            found.append(b"" if outcome.scores is None else outcome.scores.tobytes())
            found.append(repr((outcome.learning_rate, outcome.valid_scores)).encode())
print(hashlib.sha256(b"".join(found)).hexdigest())
"""


@pytest.mark.parametrize("config", [QUICK, replace(QUICK, hidden_layers=1, hidden_size=8), XaresProbeConfig(seeds=2)])
def test_runs_side_by_side_change_no_bit(config, monkeypatch):
    features, targets = toy(noise=1.0)
    folds = [thirds(240, shift) for shift in range(3)]
    found = []
    for count in (1, 3):
        monkeypatch.setattr(threads, "num_threads", lambda count=count: count)
        found.append(train_probes(features, targets, folds, num_classes=4, config=config))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one.predictions, other.predictions)
        assert (one.learning_rate, one.valid_scores) == (other.learning_rate, other.valid_scores)


@pytest.mark.slow
def test_the_number_of_threads_of_the_whole_process_changes_no_bit():
    found = set()
    for count in ("1", "2"):
        environment = {**os.environ, "OMP_NUM_THREADS": count}
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        found.add(run.stdout.strip())
    assert len(found) == 1
