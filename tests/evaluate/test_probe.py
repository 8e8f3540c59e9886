"""The probe against scikit-learn, against itself one at a time, and against leaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from uniwhisper.errors import ConfigError
from uniwhisper.evaluate.probe import ProbeConfig, train_probes
from uniwhisper.evaluate.splits import Fold

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
