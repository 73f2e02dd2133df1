"""Operating points on films few enough to be counted."""

import json

import numpy as np
import pytest

from pneumo.errors import PneumoError
from pneumo.evaluation.metrics import measure
from pneumo.evaluation.thresholds import (
    ENOUGH,
    HIGHEST,
    LOWEST,
    STEP,
    bound_below,
    choose_certain_specific_threshold,
    choose_certain_threshold,
    choose_even_threshold,
    choose_points,
    choose_specific_threshold,
    choose_threshold,
    decide,
    describe_doubts,
    suggest_points,
)
from pneumo.model.card import sigmoid
from tests.support.logits import many_logits


def find_worst(target, probability, threshold, strata=None):
    """The lowest sensitivity or specificity of the strata."""
    target, probability = np.asarray(target), np.asarray(probability)
    strata = np.zeros(len(target)) if strata is None else np.asarray(strata)
    figures = [measure(target[strata == one], probability[strata == one], threshold) for one in np.unique(strata)]
    return min(figure[name] for figure in figures for name in ("sensitivity", "specificity"))


def test_points_by_their_rules():
    # pneumonias at 0.001 … 1.000, normals at 0.0001 … 0.1000: 990 of 1000 found, 980 of 1000 below. From 0.0910 on 909
    # normals lie below, up to 0.0920 909 pneumonias are found: elsewhere one of the two is fewer. Below 0.0920
    # most normals lie, below 0.0918 two fewer: as good in the mean, and 0.0919 is the middle
    target = np.repeat([1, 0], 1000)
    probability = np.r_[np.arange(1, 1001) / 1000, np.arange(1, 1001) / 10000]
    assert choose_points(target, probability) == {"screening": 0.011, "balanced": 0.0919, "specific": 0.0981}
    # normals at half of that: 98 % lie below 0.0491, 95 % of the pneumonias at 0.051 or above, and that is higher.
    # 953 are right of each label from 0.0477 to 0.0480, and at 0.0480 most normals
    probability[1000:] /= 2
    assert choose_points(target, probability) == {"screening": 0.011, "balanced": 0.048, "specific": 0.051}


def test_points_rise():
    # all are right from 0.1001 on; to find 99 or 95 % of two pneumonias is to find both, up to 0.9, but screening lies
    # below balanced
    points = choose_points([0, 0, 1, 1], [0.05, 0.1, 0.9, 0.95])
    assert points == {"screening": 0.1, "balanced": 0.1001, "specific": 0.9}
    rng = np.random.default_rng(0)
    for _ in range(50):
        target = np.r_[0, 1, rng.integers(0, 2, 60)]
        probability = rng.random(62).round(1)
        screening, balanced, specific = choose_points(target, probability).values()
        assert LOWEST <= screening < balanced < specific <= HIGHEST
        worst = [find_worst(target, probability, threshold) for threshold in (balanced, *np.arange(0.05, 1, 0.1))]
        assert worst[0] == max(worst)  # between each two of the films' probabilities one was tried


def test_points_have_a_logit():
    # all wrong at any threshold: of 0.0001 and 1.0001 the upper one, a step below specific; all right from 0.0001 on
    assert choose_points([0, 1], [1.0, 0.0]) == {"screening": LOWEST, "balanced": 0.9998, "specific": HIGHEST}
    assert choose_points([0, 1], [0.0, 1.0]) == {"screening": LOWEST, "balanced": 0.0002, "specific": HIGHEST}


def test_points_hold_in_every_stratum():
    # 100 pneumonias at 0.41 … 0.90 in PA films, at 0.21 … 0.70 in AP; 100 normals at 0.01 … 0.50 and at 0.11 … 0.60
    rises = np.repeat(np.arange(1, 51) / 100, 2)
    probability = np.r_[rises + 0.4, rises + 0.2, rises, rises + 0.1]
    target, view = np.repeat([1, 0], 200), np.tile(np.repeat(["PA", "AP"], 100), 2)
    points = choose_points(target, probability, view)
    # AP is the worse: at 0.4001 60 of 100 are right of each label, PA has 80 normals and all pneumonias right there
    assert points["balanced"] == 0.4001
    assert find_worst(target, probability, 0.4001, view) == 0.6
    assert choose_even_threshold(target, probability) == 0.4301  # of all films 148 of 200 normals, 152 pneumonias: 0.74
    assert points["screening"] == choose_threshold(target[view == "AP"], probability[view == "AP"], 0.99) == 0.21
    for name in ("PA", "AP"):
        films = view == name
        assert measure(target[films], probability[films], points["screening"])["sensitivity"] >= 0.99
        assert measure(target[films], probability[films], points["specific"])["specificity"] >= 0.98
    assert points["specific"] == choose_specific_threshold(target[view == "AP"], probability[view == "AP"]) == 0.5901
    # a stratum without pneumonias asks for no sensitivity
    alone = choose_threshold([1, 0], [0.7, 0.1], 0.97, ["a", "b"])
    assert alone == 0.7


def test_even_threshold_by_hand():
    # all are right from 0.4001 to 0.6001; thresholds are a step above a film
    assert choose_even_threshold([0, 0, 1, 1], [0.2, 0.4, 0.6001, 0.8]) == 0.4001
    # in b the pneumonia at 0.3 is below the normal at 0.5: one of two is lost at best, so that 0.3 < t <= 0.5 is as bad
    # as t > 0.5 where b's other normal and a's films are right
    target, probability = [1, 1, 0, 0, 1, 1, 0, 0], [0.9, 0.8, 0.1, 0.2, 0.3, 0.9, 0.5, 0.1]
    chosen = choose_even_threshold(target, probability, list("aaaabbbb"))
    assert find_worst(target, probability, chosen, list("aaaabbbb")) == 0.5
    # ten normals of one hospital lie at 0.5: all pneumonias found at 0.3 would call all of these wrong
    probability, target = np.r_[np.full(10, 0.6), 0.4, np.full(10, 0.5), np.full(10, 0.1)], np.repeat([1, 0], [11, 20])
    strata = np.r_[np.repeat("x", 11), np.repeat("y", 10), np.repeat("x", 10)]
    assert 0.5 < choose_even_threshold(target, probability, strata) <= 0.6
    assert choose_threshold(target, probability, 0.97, strata) == 0.4


def test_exact_bounds_by_hand():
    # all of n found: the share s with s^n = 0.05; none of n: 0
    assert bound_below(59, 59) == pytest.approx(0.05 ** (1 / 59))
    assert bound_below(0, 10) == 0
    # one of two: 1 - (1 - s)² = 0.05
    assert bound_below(1, 2) == pytest.approx(1 - 0.95**0.5)


def test_certain_thresholds_leave_as_many_wrong_as_the_bound_allows():
    # 59 of 59 are 95 % sure of 95 % (0.95^59 = 0.0485), 58 of 58 are not (0.0510); one missed needs 93 films
    for count, missed in ((59, 0), (92, 0), (93, 1)):
        target, probability = np.ones(count), np.arange(1, count + 1) / 1000
        assert choose_certain_threshold(target, probability, range(count), 0.95) == (missed + 1) / 1000
        below = choose_certain_specific_threshold(1 - target, probability, range(count), 0.95)
        assert below == pytest.approx((count - missed) / 1000 + STEP)
    with pytest.raises(PneumoError, match="at least 59 PNEUMONIA patients to be 95% certain of 95%, received 58"):
        choose_certain_threshold(np.ones(58), np.linspace(0.1, 1, 58), range(58), 0.95)
    with pytest.raises(PneumoError, match=r"at least 59 NORMAL patients.*received 30"):
        choose_certain_specific_threshold(np.zeros(60), np.linspace(0.1, 1, 60), np.arange(60) // 2, 0.95)


def test_certain_thresholds_keep_their_promise():
    # pneumonias uniform in 0..1: a threshold t finds 1 - t of them, so at least 95 % in at least 95 % of the samples
    rng = np.random.default_rng(0)
    chosen = [choose_certain_threshold(np.ones(100), rng.random(100), range(100), 0.95) for _ in range(400)]
    assert np.mean(np.array(chosen) <= 0.05) >= 0.95
    plain = [choose_threshold(np.ones(100), rng.random(100), 0.95) for _ in range(400)]
    assert np.mean(np.array(plain) <= 0.05) < 0.7


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
        assert measure(np.ones(count), probability, threshold)["sensitivity"] >= 0.97
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
        assert measure(np.zeros(count), probability, threshold)["specificity"] >= 0.98
        assert round(threshold, 4) == threshold


def test_specific_threshold_needs_normals():
    with pytest.raises(ValueError, match="Expected normals"):
        choose_specific_threshold([1, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="specificity"):
        choose_specific_threshold([0], [0.1], 98)


def test_suggested_intervals_hold_the_threshold_and_know_the_patients():
    rng = np.random.default_rng(0)
    target = np.repeat([0, 1], 200)
    probability = np.clip(0.5 + 0.3 * (target - 0.5) + 0.15 * rng.standard_normal(400), 0, 1)
    alone = suggest_points(target, probability, range(400), draws=200)
    of_ten = suggest_points(target, probability, np.arange(400) // 10, draws=200)
    assert {name: point["threshold"] for name, point in alone.items()} == choose_points(target, probability)
    for point in alone.values():
        low, high = point["interval"]
        assert low <= point["threshold"] <= high
        assert high > low
    tenfold = suggest_points(np.repeat(target, 10), np.repeat(probability, 10), np.repeat(range(400), 10), draws=200)
    assert tenfold["balanced"]["interval"] == pytest.approx(alone["balanced"]["interval"], abs=0.02)
    assert of_ten["balanced"]["threshold"] == alone["balanced"]["threshold"]
    one = suggest_points([0, 1], [0.1, 0.9], ["a", "a"])
    assert one["balanced"]["interval"] == [0.1001, 0.1001]
    with pytest.raises(ValueError, match="normals"):
        suggest_points([1, 1], [0.2, 0.9], ["a", "b"])


def test_points_of_few_patients_are_doubted():
    target = np.repeat([0, 1], 2 * ENOUGH)
    assert "too few" not in describe_doubts(target, np.arange(4 * ENOUGH) // 2)
    assert f"too few: {ENOUGH // 2} NORMAL and {ENOUGH} PNEUMONIA patients" in describe_doubts(
        target, np.r_[np.arange(2 * ENOUGH) // 4, np.arange(2 * ENOUGH) // 2 + 1000]
    )


def test_decisions_are_made_on_validation_alone():
    validation, test = many_logits(1, -1, 400), many_logits(1, -1, 200)
    found = decide({"validation": validation, "internal_test": test})
    other = decide({"validation": validation, "internal_test": (1 - test[0], *test[1:])})
    for key in ("calibration", "default_operating_point"):
        assert found[key] == other[key]
    for name, point in found["operating_points"].items():
        assert point["threshold"] == other["operating_points"][name]["threshold"]
        assert point["validation"] == other["operating_points"][name]["validation"]
        assert point["internal_test"]["n"] == 200
        assert point["internal_test"] != other["operating_points"][name]["internal_test"]
    on_validation = {name: point["validation"] for name, point in found["operating_points"].items()}
    worst = {name: min(one["sensitivity"], one["specificity"]) for name, one in on_validation.items()}
    assert max(worst, key=worst.get) == "balanced"
    assert on_validation["screening"]["sensitivity"] >= 0.99
    assert found["triage"]["validation"]["rule_out"] == found["operating_points"]["screening"]["threshold"]
    assert found["triage"]["validation"]["rule_in"] == found["operating_points"]["specific"]["threshold"]
    json.dumps(found, allow_nan=False)


def test_decisions_hold_in_every_stratum():
    target, logit, patients = many_logits(1, -1, 400)
    shifted = logit - 2 * (np.arange(400) % 2)  # every second film is of a view in which the network says less
    parts, views = {"validation": (target, shifted, patients)}, np.arange(400) % 2
    pooled, strict = decide(parts), decide(parts, (target, shifted, views))
    assert strict["calibration"] == pooled["calibration"]
    probability = sigmoid(strict["calibration"]["slope"] * shifted + strict["calibration"]["intercept"])
    even = strict["operating_points"]["balanced"]["threshold"]
    worst = [find_worst(target, probability, threshold, views) for threshold in (even, *np.arange(0.02, 1, 0.02))]
    assert worst[0] == max(worst)
    low = [found["operating_points"]["screening"]["threshold"] for found in (strict, pooled)]
    assert low[0] < low[1]
    for view in (0, 1):
        assert (probability >= low[0])[(target == 1) & (views == view)].mean() >= 0.99
