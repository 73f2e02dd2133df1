"""A network's logit -> a probability: Platt's sigmoid or a temperature, whichever fits films left out better.

Arrays have one entry a film, (n,): `target` is 1 for pneumonia and 0 for normal, `logit` the served network's,
`patients` names whose film it is.
"""

from collections.abc import Callable, Sequence

import numpy as np

from pneumo.model.card import sigmoid

FOLDS = 5


def fit_platt(target: np.ndarray, logit: np.ndarray, intercept: bool = True) -> tuple[float, float]:
    """Fit slope and intercept of probability = sigmoid(slope · logit + intercept), by maximum likelihood.

    Without `intercept` it is 0, and the slope is the inverse of a temperature (Guo et al. 2017, section 4.2).

    As in Platt 1999, section 2.2, a pneumonia counts as (P + 1) / (P + 2) and a normal as 1 / (N + 2) of one, for P and
    N films: otherwise films that the logits separate entirely would have no finite slope.

    Raises:
        ValueError: one class only, or logits that do not rise with pneumonia.
    """
    from sklearn.linear_model import LogisticRegression

    target, logit = np.asarray(target), np.asarray(logit, float)
    positives, negatives = int((target == 1).sum()), int((target == 0).sum())
    if not positives or not negatives:
        raise ValueError(f"Expected both classes, received {negatives} normals and {positives} pneumonias.")
    share = np.where(target == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))  # (n,) how much pneumonia
    centre = logit.mean() if intercept else 0.0  # the solver wants numbers around 1, whatever the network's scale
    spread = np.sqrt(np.mean((logit - centre) ** 2)) or 1.0
    scaled = np.tile((logit - centre) / spread, 2)[:, None]  # (2n, 1): each film once as pneumonia, once as normal
    fit = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000, fit_intercept=intercept)
    fit.fit(scaled, np.repeat([1, 0], len(logit)), sample_weight=np.r_[share, 1 - share])
    slope = float(fit.coef_[0, 0] / spread)
    if not slope > 0:
        raise ValueError(f"Expected logits that rise with pneumonia, received a slope of {slope:.3g}.")
    return slope, float(np.ravel(fit.intercept_)[0] - slope * centre)


def calibrate(target: np.ndarray, logit: np.ndarray, patients: Sequence) -> dict:
    """Choose the card's `calibration`: slope and intercept of the `method` with the lower Brier score on new films.

    `brier` has the score of each method, fitted on four fifths of the patients and measured on the others. It is None
    where a label has fewer than FOLDS patients or the method finds no slope above 0 (temperature, where most logits
    have the wrong sign). If either score is missing, Platt is taken. Isotonic regression is measured and never chosen:
    its steps give many films one probability, 0 and 1 among them, which hides their order and has no logit for the map.

    Raises:
        ValueError: one class only, or logits that do not rise with pneumonia.
    """
    target, logit, patients = np.asarray(target), np.asarray(logit, float), np.asarray(patients)
    brier = {name: measure_left_out(target, logit, patients, name) for name in METHODS}
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


def _scale(intercept: bool) -> Callable:
    def fit(target: np.ndarray, logit: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        slope, shift = fit_platt(target, logit, intercept)
        return lambda x: sigmoid(slope * x + shift)

    return fit


def _fit_isotonic(target: np.ndarray, logit: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    from sklearn.isotonic import IsotonicRegression

    return IsotonicRegression(out_of_bounds="clip").fit(logit, target).predict


METHODS = {"Platt": _scale(True), "temperature": _scale(False), "isotonic": _fit_isotonic}


def measure_left_out(target: np.ndarray, logit: np.ndarray, patients: np.ndarray, method: str) -> float | None:
    """Brier score of films whose patients the fit has not seen, by one of METHODS; on its own films, all look better.

    None where a label has too few patients, or the logits of a fold do not rise with pneumonia.
    """
    from sklearn.metrics import brier_score_loss
    from sklearn.model_selection import StratifiedGroupKFold

    if min(len(set(patients[target == label])) for label in (0, 1)) < FOLDS:
        return None
    probability = np.empty(len(target))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(logit, target, patients)
    for seen, left_out in folds:
        try:
            probability[left_out] = METHODS[method](target[seen], logit[seen])(logit[left_out])
        except ValueError:
            return None
    return float(brier_score_loss(target, probability))
