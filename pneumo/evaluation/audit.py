"""Does acquisition alone tell the labels of these films apart, and does the model live on it?

Measured by the acquisition score (`matching`): on films whose acquisition contradicts their label, on films weighted so
that acquisition says nothing, and by how much of the model's logit acquisition explains.

Arrays have one entry a film, (n,): `target` is 1 for pneumonia and 0 for normal, `score` the acquisition score,
`patients` names whose film it is.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from pneumo import LABELS
from pneumo.errors import PneumoError
from pneumo.evaluation.matching import CONTRADICTED, STRATUM, find_contradicted, match
from pneumo.evaluation.metrics import bootstrap, count_effective, estimate_share_intervals, measure_draws, summarise
from pneumo.model.card import sigmoid

MUCH = 0.8  # from this AUC of acquisition alone on, a model needs no lung to look good
AS_GOOD = 0.02  # groups of numbers whose AUC differs by less explain the labels equally well
PATIENTS_AT_ONCE = 256  # left out in one piece of memory
WIDE = 0.7  # an interval of an AUC from below 0.5 to above this says that there are too few films
NAMED = {  # figures of the result, in order, with their names
    "auc": "AUC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "auc_contradicted": "AUC, contradicted films",
    "sensitivity_contradicted": "Sensitivity there",
    "specificity_contradicted": "Specificity there",
    "auc_matched": "AUC, matched films",
    "explained_normal": "Logit explained, NORMAL",
    "explained_pneumonia": "Logit explained, PNEUMONIA",
}
_OPERATING = ("auc", "sensitivity", "specificity")


def measure_separation(target: np.ndarray, scores: Mapping[str, np.ndarray], patients: Sequence) -> dict:
    """Measure how far acquisition tells the labels apart: `auc`, `interval`, `by_group`, and the `verdict` in words.

    `scores` are acquisition scores: "all" of every number, and one of each group of numbers alone.

    Raises:
        PneumoError: films of one label only.
    """
    target = np.asarray(target)
    if len(set(target.tolist())) < len(LABELS):
        raise PneumoError(f"Expected films of both labels to audit, received {len(target)} of one.")
    weights = bootstrap(patients)
    found = {}
    for name, score in scores.items():
        auc, interval = _summarise_auc(target, sigmoid(score), weights)
        found[name] = {"auc": auc, "interval": interval}
    result = found["all"] | {"by_group": {name: of for name, of in found.items() if name != "all"}}
    return {"verdict": state_verdict(result)} | result


def state_verdict(result: dict) -> str:
    """Say in one sentence what `measure_separation` found, and which group of numbers alone tells most."""
    auc, (low, high) = result["auc"], result["interval"]
    span = f"AUC {auc:.2f} ({low:.2f} to {high:.2f})"
    if low <= 0.5 and high > WIDE:
        return f"These are too few films to say whether acquisition alone tells the labels apart: {span}."
    if low <= 0.5:
        return f"Acquisition alone does not tell the labels apart: {span}, and 0.50 is chance."
    alone = {name: group["auc"] for name, group in result["by_group"].items()}
    first = next(name for name in alone if alone[name] > max(alone.values()) - AS_GOOD)
    consequence = "proves little" if auc >= MUCH else "may owe part of it to that"
    return (
        f"Acquisition alone tells the labels apart with {span}, {first} alone with {alone[first]:.2f}: "
        f"a good score on these films {consequence}."
    )


def measure_explained(logit: np.ndarray, score: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Measure the share of the logit's variance that a straight line in the score explains: (draws,), NaN without any.

    It is R², the squared correlation. Give it films of one class: between the classes a good model and the score agree.
    """
    total = times.sum(axis=1, keepdims=True)
    weights = np.divide(times, total, out=np.zeros(times.shape), where=total > 0)
    x, y = (values - (weights @ values)[:, None] for values in (np.asarray(score, float), np.asarray(logit, float)))
    variance_x, variance_y, covariance = ((weights * product).sum(axis=1) for product in (x * x, y * y, x * y))
    both = variance_x * variance_y
    return np.divide(covariance**2, both, out=np.full(len(both), np.nan), where=both > 1e-18)


def find_decisive(
    target: np.ndarray, score: np.ndarray, patients: Sequence, probability: np.ndarray, against: np.ndarray
) -> dict[str, dict | None]:
    """Find the patient without whom `auc_contradicted` changes most, and the one without whom `auc_matched` does.

    `films` are the indices of the patient's films, `without` is the AUC without them; None where no patient changes it.
    The contradicted films stay those `against` (n,) bool; the matching weights are computed anew.
    """
    _, patient = np.unique(patients, return_inverse=True)

    def measure_aucs(times: np.ndarray) -> np.ndarray:
        """(2, draws): of the contradicted and of the matched films, each coming `times` (draws, n)."""
        there = measure_draws(target[against], probability[against], 0.5, times[:, against])[0]["auc"]
        return np.stack([there, measure_draws(target, probability, 0.5, match(target, score, times))[0]["auc"]])

    count = patient.max() + 1
    without = [
        measure_aucs((patient != np.arange(first, min(first + PATIENTS_AT_ONCE, count))[:, None]).astype(float))
        for first in range(0, count, PATIENTS_AT_ONCE)
    ]
    found = {}
    for name, whole, left in zip(
        ("auc_contradicted", "auc_matched"), measure_aucs(np.ones((1, len(target)))), np.hstack(without), strict=True
    ):
        moved = np.nan_to_num(np.abs(left - whole))
        most = int(moved.argmax())
        films = np.flatnonzero(patient == most).tolist()
        found[name] = {"films": films, "without": float(left[most])} if moved[most] > 0 else None
    return found


def audit(
    target: np.ndarray,
    score: np.ndarray,
    patients: Sequence,
    logit: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    changed: Mapping[str, np.ndarray],
) -> dict:
    """Measure a model where acquisition contradicts the label: NAMED, their `intervals`, and detail, ready for JSON.

    `logit` and `probability` are the model's, `changed` its probabilities of the same films under each intervention.
    Intervals are 95 %: of sensitivity and specificity `metrics.bound_share`'s, the others bootstraps by patient, in
    which the contradicted films stay the same and the matching weights are computed anew. Undefined figures are None.
    """
    target, score, logit, probability = map(np.asarray, (target, score, logit, probability))
    weights, against = bootstrap(patients), find_contradicted(target, score)
    balanced = match(target, score, weights)
    figures = _measure_figures(target, probability, threshold, np.asarray(patients), against, weights)
    figures["auc_matched"] = _summarise_auc(target, probability, balanced)
    for number, label in enumerate(LABELS):
        of = target == number
        figures[f"explained_{label.lower()}"] = summarise(measure_explained(logit[of], score[of], weights[:, of]))
    return {
        "n": len(target),
        "patients": len(np.unique(patients)),
        "threshold": float(threshold),
        **{name: figures[name][0] for name in NAMED},
        "intervals": {name: figures[name][1] for name in NAMED},
        "contradicted": {
            "share": CONTRADICTED,
            **{label: int((target[against] == number).sum()) for number, label in enumerate(LABELS)},
            "acquisition_auc": _summarise_auc(target, sigmoid(score), against * weights[:1])[0],
        },
        "matched": {
            "stratum": STRATUM,
            "effective_n": {
                label: count_effective(balanced[0, target == number]) for number, label in enumerate(LABELS)
            },
            "acquisition_auc": _summarise_auc(target, sigmoid(score), balanced[:1])[0],  # 0.5 in narrow enough strata
        },
        "decisive": find_decisive(target, score, patients, probability, against),
        "interventions": {
            name: _measure_change(target, probability, np.asarray(other), threshold, weights)
            for name, other in changed.items()
        },
    }


def _measure_figures(
    target: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    patients: np.ndarray,
    against: np.ndarray,
    weights: np.ndarray,
) -> dict[str, tuple]:
    """AUC, sensitivity and specificity of all films and of those `against`, each with its interval."""
    figures = {}
    for suffix, films in (("", np.ones(len(target), bool)), ("_contradicted", against)):
        values, _ = measure_draws(target[films], probability[films], threshold, weights[:, films])
        spans = estimate_share_intervals(target[films], probability[films], threshold, patients[films])
        for name in _OPERATING:
            value, interval = summarise(values[name])
            figures[f"{name}{suffix}"] = value, spans.get(name, interval)
    return figures


def _measure_change(
    target: np.ndarray, probability: np.ndarray, other: np.ndarray, threshold: float, weights: np.ndarray
) -> dict:
    """Measure an intervention after which the films have the probability `other`."""
    (before, _), (after, _) = (measure_draws(target, p, threshold, weights) for p in (probability, other))
    same = (other >= threshold) == (probability >= threshold)
    found = {name: summarise(after[name]) for name in _OPERATING}
    found["auc_change"] = summarise(after["auc"] - before["auc"])
    found["same_label"] = summarise(weights @ same / weights.sum(axis=1))
    return {n: value for n, (value, _) in found.items()} | {"intervals": {n: span for n, (_, span) in found.items()}}


def _summarise_auc(
    target: np.ndarray, probability: np.ndarray, weights: np.ndarray
) -> tuple[float | None, list[float] | None]:
    return summarise(measure_draws(target, probability, 0.5, weights)[0]["auc"])
