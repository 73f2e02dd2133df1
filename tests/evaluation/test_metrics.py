"""Metrics: every number here can be had with a pencil."""

import json
import math
import time

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score

from pneumo.evaluation.metrics import (
    METRICS,
    bound_share,
    estimate_intervals,
    evaluate,
    measure,
    measure_draws,
    measure_point,
    measure_triage,
)


def test_four_films_one_in_each_cell():
    result = measure([1, 0, 0, 1], [0.9, 0.6, 0.2, 0.1], threshold=0.5)
    assert result["confusion"] == {"tp": 1, "fp": 1, "tn": 1, "fn": 1}
    assert [result[name] for name in ("accuracy", "sensitivity", "specificity", "precision", "f1")] == [0.5] * 5
    assert result["auc"] == 0.5  # of the pairs (pneumonia, normal) 0.9 wins both, 0.1 loses both
    assert result["brier"] == pytest.approx((0.1**2 + 0.6**2 + 0.2**2 + 0.9**2) / 4)
    assert result["ece"] == pytest.approx((0.1 + 0.6 + 0.2 + 0.9) / 4)  # each film in a bin of its own
    assert (result["n"], result["threshold"]) == (4, 0.5)
    assert set(result) == {"n", "threshold", "confusion", "ece_expected", *METRICS}


def test_all_numbers_are_plain_and_differ_where_they_should():
    result = measure(np.array([1, 1, 1, 0]), np.array([0.9, 0.8, 0.3, 0.4], np.float32), threshold=0.35)
    assert result["sensitivity"] == pytest.approx(2 / 3)
    assert result["specificity"] == 0
    assert result["precision"] == pytest.approx(2 / 3)
    assert result["f1"] == pytest.approx(2 / 3)
    assert result["auc"] == pytest.approx(2 / 3)
    json.dumps(result, allow_nan=False)


def test_a_film_at_the_threshold_is_called_pneumonia():
    assert measure([1, 0], [0.5, 0.4], threshold=0.5)["confusion"] == {"tp": 1, "fp": 0, "tn": 1, "fn": 0}


def test_a_tie_is_half_a_pair():
    assert measure([1, 0], [0.7, 0.7], 0.5)["auc"] == 0.5
    assert measure([1, 1, 0], [0.7, 0.9, 0.7], 0.5)["auc"] == 0.75


def test_calibration_error_weighs_bins_by_their_films():
    # bin [0.2, 0.3): mean probability 0.25, no pneumonia of 2; bin [0.9, 1]: 0.95, half of 2; together 4 films
    assert measure([0, 0, 1, 0], [0.2, 0.29, 0.9, 1.0], 0.5)["ece"] == pytest.approx((2 * 0.245 + 2 * 0.45) / 4)


def test_few_films_have_a_calibration_error_however_right_their_probabilities_are():
    # two bins of 4 films with p (1 - p) = 0.25 and 0.09: deviations 1 and 0.6, of which √(2 / π) is expected
    probability = [0.5] * 4 + [0.9] * 4
    expected = (2 / math.pi) ** 0.5 * (1 + 0.6) / 8
    assert measure([0, 1] * 4, probability, 0.5)["ece_expected"] == pytest.approx(expected)
    assert measure([0, 1], [0.0, 1.0], 0.5)["ece_expected"] == 0
    draws = np.random.default_rng(0).random((400, 800)) < np.repeat(probability, 100)
    seen = [measure(draw.astype(int), np.repeat(probability, 100), 0.5)["ece"] for draw in draws]
    assert np.mean(seen) == pytest.approx(expected / 10, rel=0.1)  # a hundred times as many films: a tenth


def test_what_is_undefined_is_none():
    normals = measure([0, 0], [0.1, 0.2], 0.5)
    assert {name for name, value in normals.items() if value is None} == {"auc", "sensitivity", "precision", "f1"}
    assert normals["specificity"] == 1
    pneumonias = measure([1, 1], [0.1, 0.2], 0.5)
    assert {name for name, value in pneumonias.items() if value is None} == {"auc", "specificity", "precision"}
    assert pneumonias["f1"] == 0
    assert estimate_intervals([0, 0], [0.1, 0.2], 0.5)["auc"] is None


@pytest.mark.parametrize(
    ("target", "probability"),
    [([], []), ([1], [0.5, 0.5]), ([2, 0], [0.5, 0.5]), ([1, 0], [1.1, 0]), ([1, 0], [math.nan, 0]), ([[1]], [[0.5]])],
    ids=["no film", "lengths", "label 2", "above 1", "nan", "column"],
)
def test_input_without_meaning_is_refused(target, probability):
    with pytest.raises(ValueError, match="Expected"):
        measure(target, probability, 0.5)


@pytest.fixture(scope="module")
def many():
    """624 films, as many as in the official test split, of about 300 patients; coarse probabilities make ties."""
    rng = np.random.default_rng(1)
    target = (rng.random(624) < 0.6).astype(int)
    probability = np.clip(0.5 + 0.25 * (target - 0.5) + 0.2 * rng.standard_normal(624), 0, 1).round(2)
    return target, probability, rng.integers(0, 300, 624)


def test_agrees_with_scikit_learn(many):
    target, probability, _ = many
    result = measure(target, probability, 0.5)
    assert result["auc"] == pytest.approx(roc_auc_score(target, probability))
    assert result["f1"] == pytest.approx(f1_score(target, probability >= 0.5))
    assert result["brier"] == pytest.approx(brier_score_loss(target, probability))


def test_a_draw_weighs_like_films_that_come_twice():
    weighted, _ = measure_draws(*map(np.array, ([1, 0, 1], [0.6, 0.6, 0.1])), 0.5, np.array([[2.0, 1.0, 1.0]]))
    repeated = measure([1, 1, 0, 1], [0.6, 0.6, 0.6, 0.1], 0.5)
    assert {name: weighted[name][0] for name in METRICS} == pytest.approx({name: repeated[name] for name in METRICS})


def test_intervals_hold_the_value_repeat_and_are_fast(many):
    target, probability, patients = many
    started = time.perf_counter()
    found = estimate_intervals(target, probability, 0.5, patients)
    assert time.perf_counter() - started < 3
    result = measure(target, probability, 0.5)
    for name in set(METRICS) - {"ece"}:  # a bootstrap sees more calibration error than there is
        low, high = found[name]
        assert low < result[name] < high
    # 624 films at an accuracy of a: standard error sqrt(a(1-a)/624), interval ± 1.96 of it, if films were independent
    expected = 2 * 1.96 * math.sqrt(result["accuracy"] * (1 - result["accuracy"]) / 624)
    low, high = estimate_intervals(target, probability, 0.5)["accuracy"]
    assert high - low == pytest.approx(expected, rel=0.02)
    assert found == estimate_intervals(target, probability, 0.5, patients)
    assert found != estimate_intervals(target, probability, 0.5, patients, seed=1)


def test_films_of_one_patient_count_as_one_and_copies_of_films_give_no_confidence():
    target, probability = [1, 0, 1, 0], [0.9, 0.1, 0.2, 0.8]
    one = estimate_intervals(target, probability, 0.5, ["a"] * 4)
    # Wilson, half of one film: (0.5 ± z·√(0.25 + z²/4) + z²/2) / (1 + z²) with z² = 3.8415
    assert one["accuracy"] == pytest.approx([0.0546, 0.9454], abs=1e-4)
    assert one["brier"] == pytest.approx([0.325, 0.325])
    patients = ["a", "b", "c", "d"]
    once = estimate_intervals(target, probability, 0.5, patients)
    tenfold = estimate_intervals(target * 10, probability * 10, 0.5, patients * 10)
    assert tenfold["accuracy"] == once["accuracy"]
    low, high = estimate_intervals(target * 10, probability * 10, 0.5)["accuracy"]
    assert high - low < once["accuracy"][1] - once["accuracy"][0]


def test_evaluate_is_the_parts_together_and_json(many):
    target, probability, patients = many
    result = evaluate(target, probability, 0.5, patients)
    assert result["intervals"] == estimate_intervals(target, probability, 0.5, patients)
    assert {key: result[key] for key in ("n", "auc")} == {"n": 624, "auc": measure(target, probability, 0.5)["auc"]}
    json.dumps(result, allow_nan=False)


def test_interval_of_a_share_by_hand():
    # 135 of 135 films of as many patients: [n / (n + z²), 1]; 3 of 135 wrong: 0.9367 to 0.9924 by scipy's binomtest
    assert bound_share(np.ones(135, bool), range(135)) == pytest.approx([135 / (135 + 1.959964**2), 1])
    assert bound_share(np.arange(135) > 2, range(135)) == pytest.approx([0.9367, 0.9924], abs=1e-4)
    # two patients with 3 films and two with 1: 8² / (9 + 9 + 1 + 1) = 3.2 films
    holds, patients = np.ones(8, bool), list("aaabbbcd")
    assert bound_share(holds, patients) == pytest.approx([3.2 / (3.2 + 1.959964**2), 1])
    assert bound_share(holds[:0], []) is None


def test_worth_of_a_threshold():
    found = measure_point(np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.6, 0.4, 0.7, 0.8]), 0.5, range(5))
    assert (found["n"], found["sensitivity"], found["specificity"]) == (5, pytest.approx(2 / 3), 0.5)
    assert found["confusion"] == {"tp": 2, "fp": 1, "tn": 1, "fn": 1}
    assert set(found["intervals"]) == {"sensitivity", "specificity"}


def test_triage_counts_what_is_open_and_what_the_rest_gains():
    # below 0.2: N N P; from 0.2: N P; from 0.8: P P P N
    target = np.array([0, 0, 1, 0, 1, 1, 1, 1, 0])
    probability = np.array([0.1, 0.1, 0.1, 0.2, 0.7, 0.8, 0.9, 0.9, 0.9])
    found = measure_triage(target, probability, 0.2, 0.8, 0.2, range(9))
    assert found["films"] == {
        "rule-out": {"NORMAL": 2, "PNEUMONIA": 1},
        "uncertain": {"NORMAL": 1, "PNEUMONIA": 1},
        "rule-in": {"NORMAL": 1, "PNEUMONIA": 3},
    }
    assert found["uncertain"] == pytest.approx(2 / 9)
    assert (found["settled_sensitivity"], found["settled_specificity"]) == pytest.approx((3 / 4, 2 / 3))
    assert (found["settled_error"], found["error"]) == pytest.approx((2 / 7, 3 / 9))
    for name, (low, high) in found["intervals"].items():
        assert low <= found[name] <= high
    json.dumps(found, allow_nan=False)


def test_triage_of_films_that_are_all_open_or_of_one_label():
    found = measure_triage(np.array([0, 1]), np.array([0.4, 0.6]), 0.2, 0.8, 0.5, range(2))
    assert (found["uncertain"], found["error"]) == (1, 0)
    assert found["settled_error"] is found["settled_sensitivity"] is found["intervals"]["settled_error"] is None
    found = measure_triage(np.array([0, 0]), np.array([0.1, 0.9]), 0.2, 0.8, 0.5, range(2))
    assert (found["settled_specificity"], found["settled_sensitivity"]) == (0.5, None)
    found = measure_triage(np.array([0, 1]), np.array([0.4, 0.5]), 0.5, 0.5, 0.5, range(2))
    assert (found["uncertain"], found["settled_error"]) == (0, 0)
