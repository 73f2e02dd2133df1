"""Operating points and calibration, on films few enough to be counted."""

import json
import math

import numpy as np
import pytest

from pneumo.evaluation.metrics import choose_threshold, fit_platt
from pneumo.evaluation.thresholds import (
    ENOUGH,
    HIGHEST,
    LOWEST,
    calibrate,
    choose_points,
    decide,
    doubts,
    suggest,
    triage,
    worth,
)
from pneumo.model.card import sigmoid


def test_points_by_their_rules():
    # pneumonias at 0.001 … 1.000, normals at 0.0001 … 0.1000: 990 and 975 of 1000 found, 980 of 1000 below
    target = np.repeat([1, 0], 1000)
    probability = np.r_[np.arange(1, 1001) / 1000, np.arange(1, 1001) / 10000]
    assert choose_points(target, probability) == {"screening": 0.011, "balanced": 0.026, "specific": 0.0981}


def test_points_never_fall():
    # the classes lie apart: the lowest with the specificity would be 0.1001, far below what finds the pneumonias
    assert choose_points([0, 0, 1, 1], [0.05, 0.1, 0.9, 0.95]) == {"screening": 0.9, "balanced": 0.9, "specific": 0.9}
    rng = np.random.default_rng(0)
    for _ in range(50):
        target = np.r_[0, 1, rng.integers(0, 2, 60)]
        probability = rng.random(62)
        points = choose_points(target, probability)
        assert list(points.values()) == sorted(points.values())
        assert points["balanced"] == choose_threshold(target, probability, 0.975)


def test_points_have_a_logit():
    assert choose_points([0, 1], [1.0, 0.0]) == {"screening": LOWEST, "balanced": LOWEST, "specific": HIGHEST}


def test_worth_of_a_threshold():
    found = worth(np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.6, 0.4, 0.7, 0.8]), 0.5, range(5))
    assert (found["n"], found["sensitivity"], found["specificity"]) == (5, pytest.approx(2 / 3), 0.5)
    assert found["confusion"] == {"tp": 2, "fp": 1, "tn": 1, "fn": 1}
    assert set(found["intervals"]) == {"sensitivity", "specificity"}


def test_triage_counts_what_is_open_and_what_the_rest_gains():
    # below 0.2: N N P; from 0.2: N P; from 0.8: P P P N
    target = np.array([0, 0, 1, 0, 1, 1, 1, 1, 0])
    probability = np.array([0.1, 0.1, 0.1, 0.2, 0.7, 0.8, 0.9, 0.9, 0.9])
    found = triage(target, probability, 0.2, 0.8, 0.2, range(9))
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
    found = triage(np.array([0, 1]), np.array([0.4, 0.6]), 0.2, 0.8, 0.5, range(2))
    assert (found["uncertain"], found["error"]) == (1, 0)
    assert found["settled_error"] is found["settled_sensitivity"] is found["intervals"]["settled_error"] is None
    found = triage(np.array([0, 0]), np.array([0.1, 0.9]), 0.2, 0.8, 0.5, range(2))
    assert (found["settled_specificity"], found["settled_sensitivity"]) == (0.5, None)
    found = triage(np.array([0, 1]), np.array([0.4, 0.5]), 0.5, 0.5, 0.5, range(2))
    assert (found["uncertain"], found["settled_error"]) == (0, 0)


def test_suggested_intervals_hold_the_threshold_and_know_the_patients():
    rng = np.random.default_rng(0)
    target = np.repeat([0, 1], 200)
    probability = np.clip(0.5 + 0.3 * (target - 0.5) + 0.15 * rng.standard_normal(400), 0, 1)
    alone = suggest(target, probability, range(400), draws=200)
    of_ten = suggest(target, probability, np.arange(400) // 10, draws=200)
    assert {name: point["threshold"] for name, point in alone.items()} == choose_points(target, probability)
    for point in alone.values():
        low, high = point["interval"]
        assert low <= point["threshold"] <= high
        assert high > low
    tenfold = suggest(np.repeat(target, 10), np.repeat(probability, 10), np.repeat(range(400), 10), draws=200)
    assert tenfold["balanced"]["interval"] == pytest.approx(alone["balanced"]["interval"], abs=0.02)
    assert of_ten["balanced"]["threshold"] == alone["balanced"]["threshold"]
    one = suggest([0, 1], [0.1, 0.9], ["a", "a"])
    assert one["balanced"]["interval"] == [0.9, 0.9]
    with pytest.raises(ValueError, match="normals"):
        suggest([1, 1], [0.2, 0.9], ["a", "b"])


def test_points_of_few_patients_are_doubted():
    target = np.repeat([0, 1], 2 * ENOUGH)
    assert "too few" not in doubts(target, np.arange(4 * ENOUGH) // 2)
    assert f"too few: {ENOUGH // 2} NORMAL and {ENOUGH} PNEUMONIA patients" in doubts(
        target, np.r_[np.arange(2 * ENOUGH) // 4, np.arange(2 * ENOUGH) // 2 + 1000]
    )


def many(slope, intercept, count=4000):
    """Films whose probability is sigmoid(slope · logit + intercept), two a patient."""
    rng = np.random.default_rng(0)
    logit = 2 * rng.standard_normal(count)
    return (rng.random(count) < sigmoid(slope * logit + intercept)).astype(int), logit, np.arange(count) // 2


def test_calibration_takes_the_method_that_fits_films_left_out():
    shifted = calibrate(*many(1, -2))
    assert shifted["method"] == "Platt"
    assert (shifted["slope"], shifted["intercept"]) == pytest.approx((1, -2), abs=0.15)
    assert shifted["brier"]["Platt"] < shifted["brier"]["isotonic"] < shifted["brier"]["temperature"]
    straight = many(0.5, 0)
    found = calibrate(*straight)
    better = "temperature" if found["brier"]["temperature"] < found["brier"]["Platt"] else "Platt"
    assert found["method"] == better
    assert found["brier"]["temperature"] == pytest.approx(found["brier"]["Platt"], abs=1e-3)
    assert (found["slope"], found["intercept"]) == fit_platt(*straight[:2], intercept=better == "Platt")


def test_calibration_without_intercept_is_chosen_where_it_fits_better():
    # pneumonia exactly where the logit is positive, mirrored: an intercept can only learn the noise of a fold
    logit = np.r_[-np.arange(1, 41), np.arange(1, 41)] / 10
    target = (logit > 0).astype(int)
    target[[3, 43]] = 1, 0
    found = calibrate(target, logit, np.arange(80))
    assert found["method"] == "temperature"
    assert found["intercept"] == 0


def test_logits_that_lie_off_by_a_lot_are_calibrated_by_platt():
    # all are below 0 and most are pneumonias: without an intercept only a slope below 0 says so
    rng = np.random.default_rng(0)
    target = np.repeat([0, 1], (26, 74))
    logit = np.where(target, -2, -4) + 0.5 * rng.standard_normal(100)
    found = calibrate(target, logit, np.arange(100))
    assert found["method"] == "Platt"
    assert found["brier"]["temperature"] is None
    assert found["brier"]["Platt"] < 0.1
    assert found["slope"] > 0
    with pytest.raises(ValueError, match="rise with pneumonia"):
        calibrate(target, -logit, np.arange(100))


def test_isotonic_looks_best_only_on_its_own_films():
    from sklearn.isotonic import IsotonicRegression

    target, logit, patients = many(1, 0, 200)
    own = np.mean((IsotonicRegression(out_of_bounds="clip").fit(logit, target).predict(logit) - target) ** 2)
    assert calibrate(target, logit, patients)["brier"]["isotonic"] > own


def test_too_few_patients_for_folds_leave_platt():
    found = calibrate([0, 0, 1, 1], [-1.0, -1.0, 1.0, 1.0], ["a", "b", "c", "d"])
    assert found["brier"] == {"Platt": None, "temperature": None, "isotonic": None}
    assert found["method"] == "Platt"
    assert found["slope"] == pytest.approx(math.log(3), abs=1e-5)


def test_decisions_are_made_on_validation_alone():
    validation, test = many(1, -1, 400), many(1, -1, 200)
    found = decide({"validation": validation, "internal_test": test})
    other = decide({"validation": validation, "internal_test": (1 - test[0], *test[1:])})
    for key in ("calibration", "default_operating_point"):
        assert found[key] == other[key]
    for name, point in found["operating_points"].items():
        assert point["threshold"] == other["operating_points"][name]["threshold"]
        assert point["validation"] == other["operating_points"][name]["validation"]
        assert point["internal_test"]["n"] == 200
        assert point["internal_test"] != other["operating_points"][name]["internal_test"]
    assert found["operating_points"]["balanced"]["validation"]["sensitivity"] >= 0.975
    assert found["triage"]["validation"]["rule_out"] == found["operating_points"]["screening"]["threshold"]
    assert found["triage"]["validation"]["rule_in"] == found["operating_points"]["specific"]["threshold"]
    json.dumps(found, allow_nan=False)
