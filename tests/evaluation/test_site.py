"""A site's own calibration and thresholds: what they promise, by numbers that a person can compute."""

import numpy as np
import pytest

from benchmarks import site as simulated
from pneumo.errors import PneumoError
from pneumo.evaluation.site import (
    LEAST,
    apply_calibration,
    calibrate_site,
    choose_site_points,
    describe_site,
    list_thresholds,
    measure_thresholds,
)


def rising(films, first=0.2, last=0.6):
    """So many normals, evenly spread from `first` to `last`, and as many pneumonias 0.2 higher."""
    normal = np.linspace(first, last, films)
    return np.repeat([0, 1], films), np.r_[normal, normal + 0.2]


def test_20_films_promise_what_20_of_20_can():
    # all of 20 found: the share s with s^20 = 0.05
    target, probability = rising(20)
    points = choose_site_points(target, probability, range(40))
    most = 0.05 ** (1 / 20)
    assert points["screening"]["promised"] == {"sensitivity": pytest.approx(most)}
    assert points["specific"]["promised"] == {"specificity": pytest.approx(most)}
    assert (points["screening"]["threshold"], points["specific"]["threshold"]) == (0.4, 0.6001)
    assert (points["screening"]["sensitivity"], points["specific"]["specificity"]) == (1, 1)
    assert points["screening"]["threshold"] <= points["balanced"]["threshold"] < points["specific"]["threshold"]
    assert "promised" not in points["balanced"]
    words = describe_site(points, {"NORMAL": 20, "PNEUMONIA": 20})
    assert "at most 13.9% of the pneumonias lie below screening, at most 13.9% of the normals from specific on" in words
    assert "Films of 59 patients of each label are needed to promise 5%" in words
    assert "50% show a pneumonia" in words


def test_100_films_may_miss_one_and_promise_95_percent():
    # P(at most 1 of 93 missed | 0.95) = 0.95^93 + 93 · 0.05 · 0.95^92 = 0.0500; of 100 films 2 missed would be too many
    target, probability = rising(100, 0.1, 0.595)  # steps of 0.005
    points = choose_site_points(target, probability, range(200))
    assert points["screening"]["threshold"] == 0.305
    assert points["screening"]["confusion"]["fn"] == points["specific"]["confusion"]["fp"] == 1
    assert points["specific"]["threshold"] == 0.5901
    assert points["screening"]["promised"] == {"sensitivity": 0.95}
    assert "are needed to promise" not in describe_site(points, {"NORMAL": 100, "PNEUMONIA": 100})


def test_labels_far_apart_leave_a_gap_uncertain():
    # every pneumonia from 0.7 on, every normal to 0.3: between them no film was seen
    target, probability = np.repeat([0, 1], 60), np.r_[np.linspace(0.1, 0.3, 60), np.linspace(0.7, 0.9, 60)]
    points = choose_site_points(target, probability, range(120))
    assert 0.3 < points["screening"]["threshold"] < 0.31
    assert 0.69 < points["specific"]["threshold"] <= 0.7001
    assert points["screening"]["sensitivity"] == points["specific"]["specificity"] == 1
    assert points["screening"]["threshold"] <= points["balanced"]["threshold"] < points["specific"]["threshold"]


def test_films_of_one_patient_promise_less():
    target, probability = rising(60)
    alone = choose_site_points(target, probability, range(120))
    of_two = choose_site_points(target, probability, np.arange(120) // 2)
    assert alone["screening"]["promised"] == {"sensitivity": 0.95}
    assert of_two["screening"]["promised"] == {"sensitivity": pytest.approx(0.05 ** (1 / 30))}


def test_every_threshold_by_hand():
    target, probability = np.array([0, 0, 1, 1]), np.array([0.1, 0.5, 0.50005, 0.9])
    thresholds = list_thresholds(probability)
    assert thresholds == pytest.approx([0.0001, 0.1001, 0.5001, 0.9001])
    rows = measure_thresholds(target, probability, range(4), thresholds, prevalence=0.1)
    assert [row["sensitivity"] for row in rows] == [1, 1, 0.5, 0]
    assert [row["specificity"] for row in rows] == [0, 0.5, 1, 1]
    # 2 of 2: s² = 0.05; 1 of 2: 1 - (1 - s)² = 0.05
    both, one = 0.05**0.5, 1 - 0.95**0.5
    assert [row["sensitivity_at_least"] for row in rows] == pytest.approx([both, both, one, 0])
    assert [row["specificity_at_least"] for row in rows] == pytest.approx([0, one, both, both])
    # of 1000 films 100 are ill; at 0.1001 all of them are found, and half of the others are called PNEUMONIA, too
    yields = ("true_positives", "false_positives", "true_negatives", "false_negatives")
    assert [rows[1][name] for name in yields] == [100, 450, 450, 0]
    assert (rows[1]["precision"], rows[1]["npv"]) == (100 / 550, 1)
    assert (rows[0]["npv"], rows[3]["precision"]) == (None, None)
    (as_here,) = measure_thresholds(target, probability, range(4), [0.1001])
    assert [as_here[name] for name in yields] == [500, 250, 250, 0]


def test_the_calibration_repairs_a_shifted_probability():
    rng = np.random.default_rng(0)
    target = np.repeat([0, 1], 50)
    logit = rng.normal(np.where(target, 6, 3), 1.25)
    found = calibrate_site(target, logit, range(100))
    before = np.mean((apply_calibration(logit, {"slope": 1, "intercept": 0}) - target) ** 2)
    assert before > 0.4 > 0.15 > found["brier"]
    # half-way between the means both labels are as likely
    assert found["slope"] * 4.5 + found["intercept"] == pytest.approx(0, abs=0.5)


def test_too_few_films_and_folders_exchanged_are_refused_with_the_reason():
    target = np.repeat([0, 1], [LEAST, LEAST - 1])
    with pytest.raises(PneumoError, match=r"at least 20 films of each label.*20 NORMAL and 19 PNEUMONIA.*Collect more"):
        calibrate_site(target, target * 1.0, range(len(target)))
    target = np.repeat([0, 1], LEAST)
    with pytest.raises(PneumoError, match="right folders"):
        calibrate_site(target, 1 - target + np.tile([0.0, 1], LEAST), range(len(target)))


def test_simulated_sites_keep_what_is_promised():
    found = simulated.simulate(20, sites=40)
    assert found["rule_out"]["promised"] == pytest.approx(0.05 ** (1 / 20))
    assert found["rule_out"]["kept"] >= 0.85  # 0.95 of many; of 40, fewer than 34 would come once in 300 times
    assert found["empirical"]["kept"] < 0.6
    assert found["brier"]["after"] < 0.15 < found["brier"]["before"]
    assert "| 20 | 0.861 |" in simulated.write_page(
        {"wanted": 0.95, "confidence": 0.95, "means": {"NORMAL": 3, "PNEUMONIA": 6}, "spread": 1.25, "rows": [found]}
    )
    # the distributions themselves: a threshold at the mean of the pneumonias finds half of them
    assert simulated.measure_brier(0.0, 0.0) == 0.25
