"""Calibration and operating points: how they are chosen, what each is worth, and what is left between them.

All of it is chosen on validation films, of the served model. Arrays are (n,), one entry a film: `target` is 1 for
pneumonia and 0 for normal, `probability` calibrated in 0..1, `patients` (or `groups`) tells whose film it is.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pneumo import LABELS
from pneumo.evaluation.metrics import (
    choose_specific_threshold,
    choose_threshold,
    fit_platt,
    intervals,
    metrics,
    resamples,
    wilson,
)
from pneumo.model.card import POINTS, TRIAGE, sigmoid

SCREENING_SENSITIVITY = 0.99
# 0.97 is what is wanted elsewhere; a threshold is a quantile of validation, and on other films it finds a little less
WANTED_SENSITIVITY = 0.975
SPECIFICITY = 0.98
DEFAULT = "balanced"
ENOUGH = 100  # patients of each label: a point at 98 or 99 % of fewer hangs on one of them
RULES = {
    "screening": f"the highest with sensitivity of at least {SCREENING_SENSITIVITY}",
    "balanced": f"the highest with sensitivity of at least {WANTED_SENSITIVITY}",
    "specific": f"the lowest, from balanced on, with specificity of at least {SPECIFICITY}",
}
LOWEST, HIGHEST = 0.0001, 0.9999  # a threshold of 0 or 1 has no logit, and with it no heat map
FOLDS = 5
_WORTH = ("sensitivity", "specificity")


def choose_points(target: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """The threshold of each of POINTS by its rule in RULES; they never fall, and lie in LOWEST..HIGHEST.

    Raises:
        ValueError: one class only.
    """
    screening = choose_threshold(target, probability, SCREENING_SENSITIVITY)
    balanced = choose_threshold(target, probability, WANTED_SENSITIVITY)
    specific = max(balanced, choose_specific_threshold(target, probability, SPECIFICITY))
    chosen = (screening, balanced, specific)
    return {name: min(max(value, LOWEST), HIGHEST) for name, value in zip(POINTS, chosen, strict=True)}


def worth(target: np.ndarray, probability: np.ndarray, threshold: float, groups: Sequence) -> dict:
    """`n`, sensitivity, specificity, their `intervals` and the `confusion` at one threshold."""
    found, spans = metrics(target, probability, threshold), intervals(target, probability, threshold, groups)
    return {
        "n": found["n"],
        **{name: found[name] for name in _WORTH},
        "confusion": found["confusion"],
        "intervals": {name: spans[name] for name in _WORTH},
    }


def triage(
    target: np.ndarray, probability: np.ndarray, rule_out: float, rule_in: float, threshold: float, groups: Sequence
) -> dict:
    """What leaving films open gains, as shares with their `intervals`, and counts of films in `films`.

    `uncertain` is the share of films from `rule_out` on and below `rule_in`. The others are settled, as NORMAL below
    and PNEUMONIA above: `settled_sensitivity`, `settled_specificity` and `settled_error` (the share called wrongly)
    are theirs, `error` that of all films at `threshold`. What cannot be computed is None.
    """
    target, probability = np.asarray(target), np.asarray(probability, float)
    where = (probability >= rule_out).astype(int) + (probability >= rule_in)  # index into TRIAGE
    positive, ruled_in, settled = target == 1, where == 2, where != 1
    groups = np.asarray(groups)

    def share(of: np.ndarray, among: np.ndarray) -> tuple[float | None, list[float] | None]:
        return (float(of[among].mean()) if among.any() else None), wilson(of[among], groups[among])

    shares = {
        "uncertain": share(~settled, np.ones(len(target), bool)),
        "settled_sensitivity": share(ruled_in, settled & positive),
        "settled_specificity": share(~ruled_in, settled & ~positive),
        "settled_error": share(ruled_in != positive, settled),
        "error": share((probability >= threshold) != positive, np.ones(len(target), bool)),
    }
    return {
        "rule_out": float(rule_out),
        "rule_in": float(rule_in),
        "films": {
            word: {label: int(((where == i) & (target == j)).sum()) for j, label in enumerate(LABELS)}
            for i, word in enumerate(TRIAGE)
        },
        **{name: value for name, (value, _) in shares.items()},
        "intervals": {name: span for name, (_, span) in shares.items()},
    }


def doubts(target: np.ndarray, groups: Sequence) -> str:
    """What must be known of points that `suggest` chose on these films, one sentence or two."""
    target, groups = np.asarray(target), np.asarray(groups)
    patients = {label: len(set(groups[target == number].tolist())) for number, label in enumerate(LABELS)}
    counts = " and ".join(f"{count} {label}" for label, count in patients.items())
    few = min(patients.values()) < ENOUGH
    return (
        "Chosen and measured on the same films: on others they are worth less; measure the profile on films that did "
        "not choose it. The probability itself stays that of the films that the model was calibrated on."
        + (f" These are too few: {counts} patients, at least {ENOUGH} of each are wanted." if few else "")
    )


def suggest(target: np.ndarray, probability: np.ndarray, groups: Sequence, draws: int = 1000) -> dict[str, dict]:
    """Operating points chosen on these films: `threshold`, its 95 % bootstrap `interval`, `rule`, and what it is worth.

    See `doubts`.

    Raises:
        ValueError: one class only.
    """
    target, probability = np.asarray(target), np.asarray(probability, float)
    chosen, drawn = choose_points(target, probability), []
    for times in resamples(len(target), groups, draws).astype(int):
        again = np.repeat(target, times)
        if 0 < again.sum() < len(again):  # of few patients a draw may have one class only
            drawn.append(list(choose_points(again, np.repeat(probability, times)).values()))
    spans = np.percentile(drawn, (2.5, 97.5), axis=0).T.tolist() if drawn else [None] * len(chosen)
    return {
        name: {"threshold": value, "interval": span, "rule": RULES[name], **worth(target, probability, value, groups)}
        for (name, value), span in zip(chosen.items(), spans, strict=True)
    }


def calibrate(target: np.ndarray, logit: np.ndarray, patients: Sequence) -> dict:
    """The card's `calibration`: slope and intercept of `method`, which has the lower Brier score on films left out.

    `brier` is that of each method, fitted on four fifths of the patients and measured on the others; None where a
    label has fewer than FOLDS patients or the method finds no slope above 0, as temperature does where the logits lie
    off by a lot. Without both it is Platt. Isotonic regression is measured and never chosen: its steps give many films
    one probability, 0 and 1 among them, which hides their order and has no logit for the map.

    Raises:
        ValueError: one class only, or logits that do not rise with pneumonia.
    """
    target, logit, patients = np.asarray(target), np.asarray(logit, float), np.asarray(patients)
    brier = {name: _left_out_brier(target, logit, patients, fit) for name, fit in _METHODS.items()}
    both = brier["temperature"] is not None and brier["Platt"] is not None
    by_temperature = both and brier["temperature"] < brier["Platt"]
    slope, intercept = fit_platt(target, logit, intercept=not by_temperature)
    return {
        "method": "temperature" if by_temperature else "Platt",
        "formula": "probability = sigmoid(slope · logit + intercept)",
        "slope": slope,
        "intercept": intercept,
        "brier": brier,
        "rule": "fitted on validation, of the served model; of Platt and temperature the one with the lower Brier score"
        f" there, in {FOLDS} folds by patient; isotonic for comparison",
    }


def decide(parts: Mapping[str, tuple[np.ndarray, np.ndarray, Sequence]]) -> dict:
    """What a card says of calibration, operating points and triage, chosen on `validation`, measured on every part.

    `parts` has of each part target, logit and patients, (n,) each.
    """
    calibration = calibrate(*parts["validation"])
    slope, intercept = calibration["slope"], calibration["intercept"]
    films = {
        part: (target, sigmoid(slope * np.asarray(logit, float) + intercept), patients)
        for part, (target, logit, patients) in parts.items()
    }
    thresholds = choose_points(*films["validation"][:2])
    rule_out, rule_in = thresholds[POINTS[0]], thresholds[POINTS[-1]]
    return {
        "calibration": calibration,
        "default_operating_point": DEFAULT,
        "operating_points": {
            name: {"threshold": value, "rule": f"{RULES[name]} on validation"}
            | {part: worth(target, probability, value, groups) for part, (target, probability, groups) in films.items()}
            for name, value in thresholds.items()
        },
        "triage": {
            part: triage(target, probability, rule_out, rule_in, thresholds[DEFAULT], groups)
            for part, (target, probability, groups) in films.items()
        },
    }


def _scaled(intercept: bool) -> Callable:
    def fit(target: np.ndarray, logit: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        slope, shift = fit_platt(target, logit, intercept)
        return lambda x: sigmoid(slope * x + shift)

    return fit


def _isotonic(target: np.ndarray, logit: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    from sklearn.isotonic import IsotonicRegression

    return IsotonicRegression(out_of_bounds="clip").fit(logit, target).predict


_METHODS = {"Platt": _scaled(True), "temperature": _scaled(False), "isotonic": _isotonic}


def _left_out_brier(target: np.ndarray, logit: np.ndarray, patients: np.ndarray, fit: Callable) -> float | None:
    """Brier score of films whose patients the fit has not seen; in sample, isotonic would always look best.

    None where a label has too few patients, or the fit says that the logits do not rise with pneumonia.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    if min(len(set(patients[target == label])) for label in (0, 1)) < FOLDS:
        return None
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(logit, target, patients)
    probability = np.empty(len(target))
    for seen, left_out in folds:
        try:
            probability[left_out] = fit(target[seen], logit[seen])(logit[left_out])
        except ValueError:
            return None
    return float(np.mean((probability - target) ** 2))
