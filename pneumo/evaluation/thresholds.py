"""Operating points: how their thresholds are chosen.

Choose on validation films, with the served model's probabilities. Arrays have one entry a film, (n,): `target` is 1 for
pneumonia and 0 for normal, `probability` is calibrated and lies in 0..1, `patients` names whose film it is, `strata`
the kind of film (population, view, acquisition). Thresholds have 4 decimals; a film at a threshold is called pneumonia.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_FLOOR, Decimal

import numpy as np

from pneumo import LABELS
from pneumo.errors import PneumoError
from pneumo.evaluation.calibration import calibrate
from pneumo.evaluation.metrics import check, count_effective, count_films, measure_point, measure_triage, resample
from pneumo.model.card import POINTS, sigmoid

SCREENING_SENSITIVITY = 0.99
SPECIFIC_SENSITIVITY, SPECIFICITY = 0.95, 0.98
DEFAULT = "balanced"
ENOUGH = 100  # patients of each label: a point at 98 or 99 % of fewer hangs on one of them
RULES = {
    "screening": f"the highest with sensitivity of at least {SCREENING_SENSITIVITY}",
    "balanced": "the one whose worst figure is best, of the sensitivities and specificities",
    "specific": f"the highest with sensitivity of at least {SPECIFIC_SENSITIVITY} or, if that is higher, the lowest "
    f"with specificity of at least {SPECIFICITY}",
}
STEP = 0.0001
LOWEST, HIGHEST = STEP, 1 - STEP  # a threshold of 0 or 1 has no logit, and with it no heat map
AS_GOOD = 0.001  # means of sensitivities and specificities that differ by no more are the same
CONFIDENCE = 0.95  # one-sided, of the thresholds that are certain


def choose_points(target: np.ndarray, probability: np.ndarray, strata: Sequence | None = None) -> dict[str, float]:
    """Choose the threshold of each of POINTS by its rule in RULES, which has to hold in each of the `strata`.

    They rise and lie in LOWEST..HIGHEST. Where classes are told apart so well, or so badly, that the rules would put
    `screening` or `specific` on the other side of `balanced`, they lie STEP beside it.

    Raises:
        ValueError: one class only.
    """
    balanced = min(max(choose_even_threshold(target, probability, strata), LOWEST + STEP), HIGHEST - STEP)
    screening = min(choose_threshold(target, probability, SCREENING_SENSITIVITY, strata), balanced - STEP)
    specific = choose_threshold(target, probability, SPECIFIC_SENSITIVITY, strata)
    specific = max(specific, choose_specific_threshold(target, probability, SPECIFICITY, strata), balanced + STEP)
    screening, balanced, specific = (round(t, 4) for t in (max(screening, LOWEST), balanced, min(specific, HIGHEST)))
    return dict(zip(POINTS, (screening, balanced, specific), strict=True))


def choose_threshold(
    target: np.ndarray, probability: np.ndarray, sensitivity: float = 0.97, strata: Sequence | None = None
) -> float:
    """Choose the highest threshold that finds this share of the pneumonias, in each of the `strata` that has any.

    Raises:
        ValueError: no pneumonia among the films, or a sensitivity outside 0..1.
    """
    return _round_down(min(_find_last(target, probability, strata, 1, sensitivity)))


def choose_specific_threshold(
    target: np.ndarray, probability: np.ndarray, specificity: float = 0.98, strata: Sequence | None = None
) -> float:
    """Choose the lowest threshold below which this share of the normals lies, in each of the `strata` that has any.

    Raises:
        ValueError: no normal among the films, or a specificity outside 0..1.
    """
    return _step_above(max(_find_last(target, probability, strata, 0, specificity)))


def choose_even_threshold(target: np.ndarray, probability: np.ndarray, strata: Sequence | None = None) -> float:
    """Choose the threshold whose worst figure is best: of all sensitivities and specificities of the `strata`.

    Of several such thresholds those count whose mean of the figures is best, within AS_GOOD, and of these the middle
    one, so that other films may lie a little to either side. Where they lie apart, the lower ones count: they miss
    fewer pneumonias. It asks for no share: where one stratum reads worse than the others, it trades that stratum's
    errors against each other.

    Raises:
        ValueError: one class only.
    """
    ill, well = (list(_divide(target, probability, strata, label)) for label in (1, 0))
    candidates = np.unique([_step_above(value) for value in np.concatenate(ill + well)] + [LOWEST])
    figures = [1 - np.searchsorted(films, candidates) / len(films) for films in ill]
    figures += [np.searchsorted(films, candidates) / len(films) for films in well]
    worst, mean = np.min(figures, axis=0), np.mean(figures, axis=0)
    mean[worst < worst.max() - 1e-9] = 0
    best = np.flatnonzero(mean >= mean.max() - AS_GOOD)
    best = best[: 1 + np.argmax(np.diff(best, append=len(mean) + 1) > 1)]  # up to the first gap
    return float(np.clip(candidates[best[len(best) // 2]], LOWEST, HIGHEST))


def choose_certain_threshold(
    target: np.ndarray, probability: np.ndarray, patients: Sequence, sensitivity: float
) -> float:
    """Choose the highest threshold of which CONFIDENCE says that it finds this share of all pneumonias like these.

    The lower bound is exact (Clopper and Pearson 1934, doi 10.1093/biomet/26.4.404), for as many films as
    `count_effective` takes a patient's films to be worth.

    Raises:
        PneumoError: too few pneumonias to be certain of that, even if all were found.
        ValueError: no pneumonia among the films, or a sensitivity outside 0..1.
    """
    (positive,) = _divide(target, probability, None, 1)
    return _round_down(positive[_count_spared(target, patients, 1, sensitivity)])


def choose_certain_specific_threshold(
    target: np.ndarray, probability: np.ndarray, patients: Sequence, specificity: float
) -> float:
    """Choose the lowest threshold of which CONFIDENCE says that this share of all normals like these lies below.

    Raises:
        PneumoError: too few normals to be certain of that, even if all lay below.
        ValueError: no normal among the films, or a specificity outside 0..1.
    """
    (negative,) = _divide(target, probability, None, 0)
    return _step_above(negative[-1 - _count_spared(target, patients, 0, specificity)])


def bound_spared(target: np.ndarray, patients: Sequence, label: int) -> np.ndarray:
    """Bound the share of this label's films that is called rightly where 0, 1, … of the n are not: (n,), falling.

    See `bound_below`; the films count as many as `count_effective` takes a patient's films to be worth.
    """
    films = np.asarray(target) == label
    n = int(films.sum())
    alike = count_effective(count_films(np.asarray(patients)[films])) / n  # films worth one
    return bound_below(alike * (n - np.arange(n)), alike * n)


def bound_below(found: np.ndarray, n: float, confidence: float = CONFIDENCE) -> np.ndarray:
    """Bound shares from below, one-sided and exact, of which `found` (any shape) of `n` films are samples.

    Clopper and Pearson 1934; the share of 0 films is bounded by 0.
    """
    from scipy.special import betaincinv

    found = np.asarray(found, float)
    return np.where(found > 0, betaincinv(np.maximum(found, 1e-9), n - found + 1, 1 - confidence), 0.0)


def suggest_points(
    target: np.ndarray, probability: np.ndarray, patients: Sequence, draws: int = 1000
) -> dict[str, dict]:
    """Choose operating points on these films: `threshold`, its 95 % bootstrap `interval`, `rule`, and its measure.

    See `describe_doubts`.

    Raises:
        ValueError: one class only.
    """
    target, probability = np.asarray(target), np.asarray(probability, float)
    chosen, drawn = choose_points(target, probability), []
    for times in resample(patients, draws).astype(int):
        again = np.repeat(target, times)
        if 0 < again.sum() < len(again):  # of few patients a draw may have one class only
            drawn.append(list(choose_points(again, np.repeat(probability, times)).values()))
    spans = np.percentile(drawn, (2.5, 97.5), axis=0).T.tolist() if drawn else [None] * len(chosen)
    return {
        name: {"threshold": value, "interval": span, "rule": RULES[name]}
        | measure_point(target, probability, value, patients)
        for (name, value), span in zip(chosen.items(), spans, strict=True)
    }


def describe_doubts(target: np.ndarray, patients: Sequence) -> str:
    """Say in two or three sentences what must be known of points that `suggest_points` chose on these films."""
    target, patients = np.asarray(target), np.asarray(patients)
    count = {label: len(set(patients[target == number].tolist())) for number, label in enumerate(LABELS)}
    few = (
        f" These are too few: {' and '.join(f'{n} {label}' for label, n in count.items())} patients, at least "
        f"{ENOUGH} of each are wanted."
    )
    return (
        "Chosen and measured on the same films: on others they are worth less; measure the profile on films that did "
        "not choose it. The probability itself stays that of the films that the model was calibrated on."
        + (few if min(count.values()) < ENOUGH else "")
    )


def decide(
    parts: Mapping[str, tuple[np.ndarray, np.ndarray, Sequence]],
    chosen_on: tuple[np.ndarray, np.ndarray, Sequence] | None = None,
) -> dict:
    """Choose a card's calibration and operating points on `validation`, and measure them and the triage on every part.

    `parts` has the target, logit and patients of each part, (n,) each. `chosen_on` has target, logit and strata, (m,)
    each, of the films in each of whose strata the rules of the operating points have to hold; else validation's.
    """
    calibration = calibrate(*parts["validation"])
    slope, intercept = calibration["slope"], calibration["intercept"]
    films = {
        part: (target, sigmoid(slope * np.asarray(logit, float) + intercept), patients)
        for part, (target, logit, patients) in parts.items()
    }
    target, logit, strata = chosen_on or (*parts["validation"][:2], None)
    thresholds = choose_points(target, sigmoid(slope * np.asarray(logit, float) + intercept), strata)
    rule_out, rule_in = thresholds[POINTS[0]], thresholds[POINTS[-1]]
    return {
        "calibration": calibration,
        "default_operating_point": DEFAULT,
        "operating_points": {
            name: {"threshold": value, "rule": f"{RULES[name]} on validation"}
            | {part: measure_point(target, prob, value, patients) for part, (target, prob, patients) in films.items()}
            for name, value in thresholds.items()
        },
        "triage": {
            part: measure_triage(target, prob, rule_out, rule_in, thresholds[DEFAULT], patients)
            for part, (target, prob, patients) in films.items()
        },
    }


def _divide(target: np.ndarray, probability: np.ndarray, strata: Sequence | None, label: int) -> Iterator[np.ndarray]:
    """Rising probabilities of the films of one label, stratum by stratum; ValueError without any film of it."""
    target, probability = check(target, probability)
    strata = np.zeros(len(target)) if strata is None else np.asarray(strata)
    if not (target == label).any():
        raise ValueError(f"Expected {('normals', 'pneumonias')[label]} to choose a threshold on, received none.")
    return (np.sort(probability[(target == label) & (strata == one)]) for one in np.unique(strata[target == label]))


def _find_last(
    target: np.ndarray, probability: np.ndarray, strata: Sequence | None, label: int, share: float
) -> Iterator[float]:
    """In each stratum, the probability of the film that completes this share of those of one label.

    Pneumonias are counted from the highest probability down, normals from the lowest up.
    """
    for films in _divide(target, probability, strata, label):
        _check_share(label, share)
        needed = math.ceil(share * len(films) - 1e-9)  # 0.07 · 100 is 7.000000000000001
        yield films[-needed if label else needed - 1]


def _check_share(label: int, share: float) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"Expected 0 < {('specificity', 'sensitivity')[label]} <= 1, received {share}.")


def _round_down(probability: float) -> float:
    return float(Decimal(repr(float(probability))).quantize(Decimal(str(STEP)), ROUND_FLOOR))


def _step_above(probability: float) -> float:
    """The lowest threshold above it: a film at a threshold would be called pneumonia."""
    return round(_round_down(probability) + STEP, 4)


def _count_spared(target: np.ndarray, patients: Sequence, label: int, share: float) -> int:
    """How many films of this label may be called wrongly, and `bound_below` still reaches `share`."""
    _check_share(label, share)
    bounds = bound_spared(target, patients, label)
    if bounds[0] < share:
        worth = count_effective(count_films(np.asarray(patients)[np.asarray(target) == label]))
        needed = math.ceil(math.log(1 - CONFIDENCE) / math.log(share)) if share < 1 else "infinitely many"
        raise PneumoError(
            f"Expected films of at least {needed} {LABELS[label]} patients to be {CONFIDENCE:.0%} certain of "
            f"{share:.0%}, received {worth:.0f}. Collect more films."
        )
    return int(np.searchsorted(-bounds, -share, side="right")) - 1
