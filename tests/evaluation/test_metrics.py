"""Metrics: every number here can be had with a pencil."""

import json
import math
import time

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score

from pneumo.evaluation import metrics as evaluation
from pneumo.evaluation.metrics import (
    METRICS,
    choose_specific_threshold,
    choose_threshold,
    fit_platt,
    intervals,
    metrics,
    reliability,
    wilson,
)


def test_four_films_one_in_each_cell():
    result = metrics([1, 0, 0, 1], [0.9, 0.6, 0.2, 0.1], threshold=0.5)
    assert result["confusion"] == {"tp": 1, "fp": 1, "tn": 1, "fn": 1}
    assert [result[name] for name in ("accuracy", "sensitivity", "specificity", "precision", "f1")] == [0.5] * 5
    assert result["auc"] == 0.5  # of the pairs (pneumonia, normal) 0.9 wins both, 0.1 loses both
    assert result["brier"] == pytest.approx((0.1**2 + 0.6**2 + 0.2**2 + 0.9**2) / 4)
    assert result["ece"] == pytest.approx((0.1 + 0.6 + 0.2 + 0.9) / 4)  # each film in a bin of its own
    assert (result["n"], result["threshold"]) == (4, 0.5)
    assert set(result) == {"n", "threshold", "confusion", *METRICS}


def test_all_numbers_are_plain_and_differ_where_they_should():
    result = metrics(np.array([1, 1, 1, 0]), np.array([0.9, 0.8, 0.3, 0.4], np.float32), threshold=0.35)
    assert result["sensitivity"] == pytest.approx(2 / 3)
    assert result["specificity"] == 0
    assert result["precision"] == pytest.approx(2 / 3)
    assert result["f1"] == pytest.approx(2 / 3)
    assert result["auc"] == pytest.approx(2 / 3)
    json.dumps(result, allow_nan=False)


def test_a_film_at_the_threshold_is_called_pneumonia():
    assert metrics([1, 0], [0.5, 0.4], threshold=0.5)["confusion"] == {"tp": 1, "fp": 0, "tn": 1, "fn": 0}


def test_a_tie_is_half_a_pair():
    assert metrics([1, 0], [0.7, 0.7], 0.5)["auc"] == 0.5
    assert metrics([1, 1, 0], [0.7, 0.9, 0.7], 0.5)["auc"] == 0.75


def test_calibration_error_weighs_bins_by_their_films():
    # bin [0.2, 0.3): mean probability 0.25, no pneumonia of 2; bin [0.9, 1]: 0.95, half of 2; together 4 films
    assert metrics([0, 0, 1, 0], [0.2, 0.29, 0.9, 1.0], 0.5)["ece"] == pytest.approx((2 * 0.245 + 2 * 0.45) / 4)
    films, mean, share = reliability([0, 0, 1, 0], [0.2, 0.29, 0.9, 1.0])
    assert films.tolist() == [0, 0, 2, 0, 0, 0, 0, 0, 0, 2]
    assert (mean[2], share[2], mean[9], share[9]) == pytest.approx((0.245, 0, 0.95, 0.5))
    assert np.isnan(mean[0])


def test_what_is_undefined_is_none():
    normals = metrics([0, 0], [0.1, 0.2], 0.5)
    assert {name for name, value in normals.items() if value is None} == {"auc", "sensitivity", "precision", "f1"}
    assert normals["specificity"] == 1
    pneumonias = metrics([1, 1], [0.1, 0.2], 0.5)
    assert {name for name, value in pneumonias.items() if value is None} == {"auc", "specificity", "precision"}
    assert pneumonias["f1"] == 0
    assert intervals([0, 0], [0.1, 0.2], 0.5)["auc"] is None


@pytest.mark.parametrize(
    ("target", "probability"),
    [([], []), ([1], [0.5, 0.5]), ([2, 0], [0.5, 0.5]), ([1, 0], [1.1, 0]), ([1, 0], [math.nan, 0]), ([[1]], [[0.5]])],
    ids=["no film", "lengths", "label 2", "above 1", "nan", "column"],
)
def test_input_without_meaning_is_refused(target, probability):
    with pytest.raises(ValueError, match="Expected"):
        metrics(target, probability, 0.5)


@pytest.fixture(scope="module")
def many():
    """624 films, as many as in the official test split, of about 300 patients; coarse probabilities make ties."""
    rng = np.random.default_rng(1)
    target = (rng.random(624) < 0.6).astype(int)
    probability = np.clip(0.5 + 0.25 * (target - 0.5) + 0.2 * rng.standard_normal(624), 0, 1).round(2)
    return target, probability, rng.integers(0, 300, 624)


def test_agrees_with_scikit_learn(many):
    target, probability, _ = many
    result = metrics(target, probability, 0.5)
    assert result["auc"] == pytest.approx(roc_auc_score(target, probability))
    assert result["f1"] == pytest.approx(f1_score(target, probability >= 0.5))
    assert result["brier"] == pytest.approx(brier_score_loss(target, probability))


def test_a_draw_weighs_like_films_that_come_twice():
    weighted, _ = evaluation.measure(*map(np.array, ([1, 0, 1], [0.6, 0.6, 0.1])), 0.5, np.array([[2.0, 1.0, 1.0]]))
    repeated = metrics([1, 1, 0, 1], [0.6, 0.6, 0.6, 0.1], 0.5)
    assert {name: weighted[name][0] for name in METRICS} == pytest.approx({name: repeated[name] for name in METRICS})


def test_intervals_hold_the_value_repeat_and_are_fast(many):
    target, probability, groups = many
    started = time.perf_counter()
    found = intervals(target, probability, 0.5, groups)
    assert time.perf_counter() - started < 3
    result = metrics(target, probability, 0.5)
    for name in set(METRICS) - {"ece"}:  # a bootstrap sees more calibration error than there is
        low, high = found[name]
        assert low < result[name] < high
    # 624 films at an accuracy of a: standard error sqrt(a(1-a)/624), interval ± 1.96 of it, if films were independent
    expected = 2 * 1.96 * math.sqrt(result["accuracy"] * (1 - result["accuracy"]) / 624)
    low, high = intervals(target, probability, 0.5)["accuracy"]
    assert high - low == pytest.approx(expected, rel=0.02)
    assert found == intervals(target, probability, 0.5, groups)
    assert found != intervals(target, probability, 0.5, groups, seed=1)


def test_films_of_one_patient_count_as_one_and_copies_of_films_give_no_confidence():
    target, probability = [1, 0, 1, 0], [0.9, 0.1, 0.2, 0.8]
    one = intervals(target, probability, 0.5, ["a"] * 4)
    # Wilson, half of one film: (0.5 ± z·√(0.25 + z²/4) + z²/2) / (1 + z²) with z² = 3.8415
    assert one["accuracy"] == pytest.approx([0.0546, 0.9454], abs=1e-4)
    assert one["brier"] == pytest.approx([0.325, 0.325])
    patients = ["a", "b", "c", "d"]
    once = intervals(target, probability, 0.5, patients)
    tenfold = intervals(target * 10, probability * 10, 0.5, patients * 10)
    assert tenfold["accuracy"] == once["accuracy"]
    low, high = intervals(target * 10, probability * 10, 0.5)["accuracy"]
    assert high - low < once["accuracy"][1] - once["accuracy"][0]


def test_threshold_is_the_highest_with_the_sensitivity():
    positive = np.arange(1, 101) / 100  # 0.01 … 1.00: 97 of 100 are at 0.04 or above
    target, probability = [1] * 100 + [0] * 2, [*positive, 0.5, 0.9]
    assert choose_threshold(target, probability, 0.97) == 0.04
    assert choose_threshold(target, probability, 1.0) == 0.01
    assert choose_threshold(target, probability, 0.07) == 0.94
    assert choose_threshold([1, 1, 0], [0.7, 0.8, 0.1], 0.5) == 0.8


def test_threshold_is_rounded_down_and_keeps_the_sensitivity():
    assert choose_threshold([1, 1], [0.123456, 0.9], 1.0) == 0.1234
    rng = np.random.default_rng(0)
    for count in (1, 2, 33, 34, 387):
        probability = rng.random(count).astype(np.float32)
        threshold = choose_threshold(np.ones(count), probability)
        assert metrics(np.ones(count), probability, threshold)["sensitivity"] >= 0.97
        assert round(threshold, 4) == threshold


def test_threshold_needs_pneumonias():
    with pytest.raises(ValueError, match="Expected pneumonias"):
        choose_threshold([0, 0], [0.1, 0.2])
    with pytest.raises(ValueError, match="sensitivity"):
        choose_threshold([1], [0.1], 97)


def test_specific_threshold_is_the_lowest_with_the_specificity():
    negative = np.arange(1, 101) / 1000  # 0.001 … 0.100: 98 of 100 are below 0.0981, at 0.098 one of them is not
    target, probability = [0] * 100 + [1] * 2, [*negative, 0.01, 0.9]
    assert choose_specific_threshold(target, probability, 0.98) == 0.0981
    assert choose_specific_threshold(target, probability, 1.0) == 0.1001
    assert choose_specific_threshold(target, probability, 0.07) == 0.0071
    assert choose_specific_threshold([0, 0, 1], [0.123456, 0.1, 0.9], 1.0) == 0.1235
    rng = np.random.default_rng(0)
    for count in (1, 2, 49, 50, 135):
        probability = rng.random(count).astype(np.float32)
        threshold = choose_specific_threshold(np.zeros(count), probability)
        assert metrics(np.zeros(count), probability, threshold)["specificity"] >= 0.98
        assert round(threshold, 4) == threshold


def test_specific_threshold_needs_normals():
    with pytest.raises(ValueError, match="Expected normals"):
        choose_specific_threshold([1, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="specificity"):
        choose_specific_threshold([0], [0.1], 98)


def test_calibration_of_two_logits():
    # At logit 0 one film of four is pneumonia, at logit 1 three of four. A pneumonia counts 5/6, a normal 1/6 (Platt):
    # the shares are (5/6 + 3/6) / 4 = 1/3 and 2/3, their log odds -ln 2 and +ln 2.
    target, logit = [0, 0, 0, 1, 0, 1, 1, 1], np.array([0, 0, 0, 0, 1, 1, 1, 1])
    slope, intercept = fit_platt(target, logit)
    assert (slope, intercept) == pytest.approx((2 * math.log(2), -math.log(2)), abs=1e-5)
    assert fit_platt(target, 500 * logit + 2000) == pytest.approx((slope / 500, intercept - 4 * slope), rel=1e-4)


def test_temperature_has_no_intercept():
    # three pneumonias and one normal at logit 1, mirrored at -1: at 1 the share is (3 · 5/6 + 1/6) / 4 = 2/3, log odds
    # ln 2, and at -1 by symmetry the opposite; shifted logits cannot be followed, only Platt can
    target, logit = [1, 1, 1, 0, 0, 0, 0, 1], np.array([1, 1, 1, 1, -1, -1, -1, -1])
    assert fit_platt(target, logit, intercept=False) == pytest.approx((math.log(2), 0), abs=1e-5)
    assert fit_platt(target, 40 * logit, intercept=False) == pytest.approx((math.log(2) / 40, 0), rel=1e-4)
    assert fit_platt(target, logit + 1, intercept=False)[1] == 0


def test_calibration_of_logits_that_separate_is_finite():
    # two and two: a pneumonia counts 3/4, a normal 1/4, log odds ± ln 3 at logits ± 1
    assert fit_platt([0, 0, 1, 1], [-1, -1, 1, 1]) == pytest.approx((math.log(3), 0), abs=1e-5)


@pytest.mark.parametrize(
    ("target", "logit", "words"),
    [
        ([1, 1], [0, 1], "both classes"),
        ([1, 1, 0, 1, 0, 0], [0, 1, 1, 2, 3, 4], "rise"),
        ([0, 1, 0, 1], [1, 1, 1, 1], "rise"),
    ],
    ids=["one class", "upside down", "constant"],
)
def test_calibration_refuses(target, logit, words):
    with pytest.raises(ValueError, match=words):
        fit_platt(target, logit)


def test_evaluate_is_the_parts_together_and_json(many):
    target, probability, groups = many
    result = evaluation.evaluate(target, probability, 0.5, groups)
    assert result["intervals"] == intervals(target, probability, 0.5, groups)
    assert {key: result[key] for key in ("n", "auc")} == {"n": 624, "auc": metrics(target, probability, 0.5)["auc"]}
    json.dumps(result, allow_nan=False)


def test_interval_of_a_share_by_hand():
    # 135 of 135 films of as many patients: [n / (n + z²), 1]; 3 of 135 wrong: 0.9367 to 0.9924 by scipy's binomtest
    assert wilson(np.ones(135, bool), range(135)) == pytest.approx([135 / (135 + 1.959964**2), 1])
    assert wilson(np.arange(135) > 2, range(135)) == pytest.approx([0.9367, 0.9924], abs=1e-4)
    # two patients with 3 films and two with 1: 8² / (9 + 9 + 1 + 1) = 3.2 films
    holds, patients = np.ones(8, bool), list("aaabbbcd")
    assert wilson(holds, patients) == pytest.approx([3.2 / (3.2 + 1.959964**2), 1])
    assert wilson(holds[:0], []) is None
