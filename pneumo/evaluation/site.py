"""A site's own calibration and operating points, from its own labelled films, with what they promise.

Arrays have one entry a film, (n,): `target` is 1 for pneumonia and 0 for normal, `logit` the served network's,
`probability` calibrated in 0..1; `patients` names whose film it is. A promise is a lower bound of which CONFIDENCE is
certain: exact (Clopper and Pearson 1934), one-sided, see `thresholds.bound_below`.
"""

from collections.abc import Sequence

import numpy as np

from pneumo import LABELS
from pneumo.errors import PneumoError
from pneumo.evaluation.calibration import fit_platt, measure_left_out
from pneumo.evaluation.metrics import measure_point
from pneumo.evaluation.thresholds import (
    CONFIDENCE,
    HIGHEST,
    LOWEST,
    STEP,
    bound_spared,
    choose_certain_specific_threshold,
    choose_certain_threshold,
    choose_even_threshold,
)
from pneumo.model.card import POINTS, sigmoid

LEAST = 20  # films of each label; of fewer, the best that can be promised is a sensitivity below 0.86
WANTED = 0.95  # what rule-out promises of the sensitivity, and rule-in of the specificity, where the films suffice
ENOUGH = 59  # films of each label that can promise WANTED: 0.95^59 < 0.05
FILMS = 1000  # to which the yields of the table refer


def calibrate_site(target: np.ndarray, logit: np.ndarray, patients: Sequence) -> dict:
    """Fit slope and intercept to the site's films (Platt), and measure them on films left out of the fit (`brier`).

    Raises:
        PneumoError: fewer than LEAST films of a label, or logits that do not rise with pneumonia.
    """
    target, logit, patients = np.asarray(target), np.asarray(logit, float), np.asarray(patients)
    count = {label: int((target == number).sum()) for number, label in enumerate(LABELS)}
    if min(count.values()) < LEAST:
        received = " and ".join(f"{n} {label}" for label, n in count.items())
        raise PneumoError(
            f"Expected at least {LEAST} films of each label to calibrate on, received {received}. Of fewer, chance "
            f"decides where the thresholds lie. Collect more films; {ENOUGH} of each can promise a sensitivity and a "
            f"specificity of {WANTED}."
        )
    try:
        slope, intercept = fit_platt(target, logit)
    except ValueError:
        raise PneumoError(
            "Expected the model to answer higher for the films in PNEUMONIA than for those in NORMAL, received the "
            "opposite. Check that the films lie in the right folders; if they do, do not use the model here."
        ) from None
    brier = measure_left_out(target, logit, patients, "Platt")
    return {"slope": slope, "intercept": intercept, "brier": brier}


def choose_site_points(target: np.ndarray, probability: np.ndarray, patients: Sequence) -> dict[str, dict]:
    """Choose each of POINTS: `threshold`, `rule`, what `measure_point` finds, and of the outer ones what is `promised`.

    Rule-out is the highest threshold that promises a sensitivity of WANTED, rule-in the lowest that promises so much
    specificity; of fewer films than ENOUGH each promises what all films called rightly can. Where the labels lie so far
    apart that rule-in would be below rule-out, both promises hold for either, and they change places: films between
    them are left uncertain. `balanced` lies between them, where the worse of sensitivity and specificity is best.

    Raises:
        ValueError: one class only.
    """
    target, probability = np.asarray(target), np.asarray(probability, float)
    share = [min(WANTED, float(bound_spared(target, patients, label)[0])) for label in (0, 1)]
    certain = (
        choose_certain_threshold(target, probability, patients, share[1]),
        choose_certain_specific_threshold(target, probability, patients, share[0]),
    )
    low, high = sorted(certain)
    balanced = min(max(choose_even_threshold(target, probability), low, LOWEST), high, HIGHEST - STEP)
    values = (max(low, LOWEST), balanced, min(max(high, balanced + STEP), HIGHEST))
    words = (
        f"promises sensitivity of at least {share[1]:.3f}, {CONFIDENCE:.0%} certain",
        "between the others, where the worse of sensitivity and specificity is best",
        f"promises specificity of at least {share[0]:.3f}, {CONFIDENCE:.0%} certain",
    )
    points = {}
    for name, value, rule in zip(POINTS, values, words, strict=True):
        found = measure_point(target, probability, round(value, 4), patients)
        points[name] = {"threshold": round(value, 4), "rule": rule, **found}
    for name, figure, label in ((POINTS[0], "sensitivity", 1), (POINTS[-1], "specificity", 0)):
        # the bound of what is found is lower than the share where rounding to 4 decimals or HIGHEST moved a threshold
        wrong = points[name]["confusion"]["fn" if label else "fp"]
        points[name]["promised"] = {figure: min(share[label], _bound(target, patients, label)[wrong])}
    return points


def _bound(target: np.ndarray, patients: Sequence, label: int) -> list[float]:
    """Bound the share of this label's films called rightly, where 0, 1, … and at last all of them are not."""
    return [*bound_spared(target, patients, label).tolist(), 0.0]


def list_thresholds(probability: np.ndarray) -> np.ndarray:
    """List, rising, the lowest threshold there is and all at which a film of these comes to be called NORMAL."""
    changes = np.floor(np.asarray(probability, float) / STEP + 1e-9).astype(int) + 1
    return np.unique(np.r_[1, changes].clip(1, round(HIGHEST / STEP))) * STEP


def measure_thresholds(
    target: np.ndarray,
    probability: np.ndarray,
    patients: Sequence,
    thresholds: Sequence[float],
    prevalence: float | None = None,
) -> list[dict[str, float | None]]:
    """Tell of each threshold what share it calls rightly, what that promises, and what it yields of FILMS films.

    A promise is of that threshold alone: who picks the best of many promises gets a little less.

    The yields are those of WHO's toolkit for computer-aided detection (2021,
    tdr.who.int/activities/calibrating-computer-aided-detection-for-tb), where `prevalence`, 0..1, of the films show a
    pneumonia: by default as many as of these. `precision` and `npv` are None where no film is called so.
    """
    target, probability = np.asarray(target), np.asarray(probability, float)
    ill = FILMS * (float(target.mean()) if prevalence is None else prevalence)
    bounds = [_bound(target, patients, label) for label in (0, 1)]
    rows = []
    for threshold in np.round(thresholds, 4).tolist():
        wrong = [int(((probability >= threshold) != target)[target == label].sum()) for label in (0, 1)]
        specificity, sensitivity = (1 - wrong[label] / int((target == label).sum()) for label in (0, 1))
        found, cleared = ill * sensitivity, (FILMS - ill) * specificity
        called = found + FILMS - ill - cleared
        rows.append(
            {
                "threshold": threshold,
                "sensitivity": sensitivity,
                "sensitivity_at_least": bounds[1][wrong[1]],
                "specificity": specificity,
                "specificity_at_least": bounds[0][wrong[0]],
                "true_positives": found,
                "false_positives": FILMS - ill - cleared,
                "true_negatives": cleared,
                "false_negatives": ill - found,
                "precision": found / called if called else None,
                "npv": cleared / (FILMS - called) if called < FILMS else None,
            }
        )
    return rows


def describe_site(points: dict[str, dict], count: dict[str, int]) -> str:
    """Say what must be known of the points that `choose_site_points` chose on so many films by label."""
    ill = count["PNEUMONIA"] / sum(count.values())
    missed = 1 - points[POINTS[0]]["promised"]["sensitivity"]
    alarms = 1 - points[POINTS[-1]]["promised"]["specificity"]
    few = f" Films of {ENOUGH} patients of each label are needed to promise {1 - WANTED:.0%}."
    return (
        f"Promised, {CONFIDENCE:.0%} certain: of films like these at most {missed:.1%} of the pneumonias lie below "
        f"{POINTS[0]}, at most {alarms:.1%} of the normals from {POINTS[-1]} on."
        + (few if max(missed, alarms) > 1 - WANTED + 1e-9 else "")
        + f" The probability is that of films of which {ill:.0%} show a pneumonia, "
        "as here. Measure the profile on films that did not choose it."
    )


def apply_calibration(logit: np.ndarray, calibration: dict) -> np.ndarray:
    """Compute the probabilities of logits (n,) by `slope` and `intercept`."""
    return sigmoid(calibration["slope"] * np.asarray(logit, float) + calibration["intercept"])
