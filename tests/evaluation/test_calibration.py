"""From logits to probabilities: fits that can be had with a pencil, and the choice between methods."""

import math

import numpy as np
import pytest

from pneumo.evaluation.calibration import calibrate, fit_platt
from tests.support.logits import many_logits


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


def test_calibration_takes_the_method_that_fits_films_left_out():
    shifted = calibrate(*many_logits(1, -2))
    assert shifted["method"] == "Platt"
    assert (shifted["slope"], shifted["intercept"]) == pytest.approx((1, -2), abs=0.3)
    assert shifted["brier"]["Platt"] < shifted["brier"]["isotonic"] < shifted["brier"]["temperature"]
    straight = many_logits(0.5, 0)
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

    target, logit, patients = many_logits(1, 0, 200)
    own = np.mean((IsotonicRegression(out_of_bounds="clip").fit(logit, target).predict(logit) - target) ** 2)
    assert calibrate(target, logit, patients)["brier"]["isotonic"] > own


def test_too_few_patients_for_folds_leave_platt():
    found = calibrate([0, 0, 1, 1], [-1.0, -1.0, 1.0, 1.0], ["a", "b", "c", "d"])
    assert found["brier"] == {"Platt": None, "temperature": None, "isotonic": None}
    assert found["method"] == "Platt"
    assert found["slope"] == pytest.approx(math.log(3), abs=1e-5)
