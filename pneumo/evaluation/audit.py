"""(nuisances, label, what the model says) -> does acquisition alone tell the labels, and does the model live on it.

The nuisance score of a film is the log-odds of PNEUMONIA that its `nuisance` numbers alone give, out of fold by
patient. From it: films whose acquisition contradicts their label, weights under which it says nothing, and how much of
the model's logit it explains. Only `score_films` reads files; arrays are (n,), one entry a film.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pneumo import LABELS
from pneumo.data.acquisition import FEATURES, GROUPS, features
from pneumo.data.dataset import Example, content_hashes, number_patients
from pneumo.errors import PneumoError
from pneumo.evaluation.metrics import bootstrap, effective, measure, share_intervals, summary
from pneumo.model.card import sigmoid

FOLDS = 5
MIN_PATIENTS = 10  # of each label: two in every fold
CONTRADICTED = 0.3  # share of each class whose acquisition looks most like the other's
STRATUM = 0.5  # width of a stratum of the nuisance score: within one, the odds vary by no more than exp(0.5) = 1.6
MOST = 6.0  # a film weighs at most as much as this many: few contradict their label, and would be learned by heart
MUCH = 0.8  # from this AUC of acquisition alone on, a model needs no lung to look good
AS_GOOD = 0.02  # groups of numbers whose AUC differs by less explain the labels equally well
PATIENTS_AT_ONCE = 256  # left out in one piece of memory
WIDE = 0.7  # an interval of an AUC from below 0.5 to above this says that there are too few films
NAMED = {  # figures of the result, in order, with what they are
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


def nuisance_score(
    measured: Sequence[Mapping[str, float]],
    target: np.ndarray,
    patients: Sequence,
    names: Sequence[str] = FEATURES,
    seed: int = 0,
) -> np.ndarray:
    """Log-odds of PNEUMONIA that `names` of the `measured` nuisances give: (n,) float64.

    Gradient-boosted trees (scikit-learn); every film by trees that saw no film of its patient.

    Raises:
        PneumoError: fewer than MIN_PATIENTS patients of a label.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    target, patients = np.asarray(target), np.asarray(patients)
    counts = [len(set(patients[target == number].tolist())) for number in range(len(LABELS))]
    if min(counts) < MIN_PATIENTS:
        received = " and ".join(f"{count} {label}" for count, label in zip(counts, LABELS, strict=True))
        raise PneumoError(f"Expected at least {MIN_PATIENTS} patients of each label to audit, received {received}.")
    values = np.array([[one[name] for name in names] for one in measured])  # (n, names)
    # few and quick trees: 300 slower ones gain 0.001 of AUC on Kermany's films
    trees = HistGradientBoostingClassifier(
        learning_rate=0.2,
        max_iter=60,
        max_leaf_nodes=15,
        min_samples_leaf=5,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=0,
    )
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return cross_val_predict(trees, values, target, groups=patients, cv=folds, method="decision_function")


def score_films(examples: Sequence[Example]) -> np.ndarray:
    """The `nuisance_score` of labelled films on disk: (n,) float64.

    Raises:
        FormatError, TooLargeError, UnreadableError: see `images.decode`.
    """
    with ThreadPoolExecutor() as pool:
        measured = list(pool.map(lambda example: features(example.path.read_bytes()), examples))
    return nuisance_score(measured, [e.target for e in examples], number_patients(examples, content_hashes(examples)))


def separation(target: np.ndarray, scores: Mapping[str, np.ndarray], patients: Sequence) -> dict:
    """How far acquisition tells the labels apart: `auc`, `interval`, `by_group`, and the `verdict` in one sentence.

    `scores` are nuisance scores: "all" of every number, and one of each of GROUPS alone.

    Raises:
        PneumoError: films of one label only.
    """
    target = np.asarray(target)
    if len(set(target.tolist())) < len(LABELS):
        raise PneumoError(f"Expected films of both labels to audit, received {len(target)} of one.")
    weights = bootstrap(patients)
    found = {}
    for name, score in scores.items():
        auc, interval = summary(measure(target, sigmoid(score), 0.5, weights)[0]["auc"])
        found[name] = {"auc": auc, "interval": interval}
    result = found["all"] | {"by_group": {name: found[name] for name in GROUPS}}
    return {"verdict": verdict(result)} | result


def verdict(result: dict) -> str:
    """One sentence on what `separation` found; names the group of numbers that alone tells most."""
    auc, (low, high) = result["auc"], result["interval"]
    span = f"AUC {auc:.2f} ({low:.2f} to {high:.2f})"
    if low <= 0.5 and high > WIDE:
        return f"These are too few films to say whether acquisition alone tells the labels apart: {span}."
    if low <= 0.5:
        return f"Acquisition alone does not tell the labels apart: {span}, and 0.50 is chance."
    alone = {name: group["auc"] for name, group in result["by_group"].items()}
    first = next(name for name in GROUPS if alone[name] > max(alone.values()) - AS_GOOD)
    consequence = "proves little" if auc >= MUCH else "may owe part of it to that"
    return (
        f"Acquisition alone tells the labels apart with {span}, {first} alone with {alone[first]:.2f}: "
        f"a good score on these films {consequence}."
    )


def contradicted(target: np.ndarray, score: np.ndarray, share: float = CONTRADICTED) -> np.ndarray:
    """Films whose acquisition contradicts their label: (n,) bool.

    The `share` of the normals with the highest nuisance score and that of the pneumonias with the lowest, rounded to
    films, at least one of each.
    """
    target, against = np.asarray(target), np.where(np.asarray(target) == 1, -1, 1) * np.asarray(score)
    chosen = np.zeros(len(target), bool)
    for number in range(len(LABELS)):
        films = np.flatnonzero(target == number)
        count = min(len(films), max(1, round(share * len(films))))
        chosen[films[np.argsort(-against[films], kind="stable")[:count]]] = True
    return chosen


def matched(target: np.ndarray, score: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Weights under which the nuisance score says nothing: (draws, n), `times` how often each film comes in each draw.

    The score is cut into strata STRATUM wide. In one of N normals and P pneumonias a normal weighs P / (N + P) and a
    pneumonia N / (N + P), so both classes weigh N · P / (N + P): overlap weights (Li, Morgan, Zaslavsky 2018, doi
    10.1080/01621459.2016.1260466). A stratum of one class weighs nothing.
    """
    target = np.asarray(target)
    _, stratum = np.unique(np.floor(np.asarray(score) / STRATUM), return_inverse=True)
    member = np.eye(stratum.max() + 1)[stratum]  # (n, strata)
    pneumonias, films = (times * target) @ member, times @ member  # (draws, strata)
    share = np.divide(pneumonias, films, out=np.zeros_like(films), where=films > 0)[:, stratum]  # (draws, n)
    return times * np.where(target == 1, 1 - share, share)


def weigh(target: np.ndarray, score: np.ndarray, share: float) -> np.ndarray:
    """How much each film counts in training: (n,) float32, 1 on average in each class.

    `share` of it goes to films by `matched`, under which the nuisance score tells nothing, at most MOST to a film.
    Where no film looks like those of the other label, all count the same.
    """
    target = np.asarray(target)
    overlap, weights = matched(target, score, np.ones((1, len(target))))[0], np.ones(len(target), np.float32)
    if not overlap.any():
        return weights
    for number in range(len(LABELS)):
        of = target == number
        mixed = np.minimum(1 - share + share * overlap[of] / overlap[of].mean(), MOST)
        weights[of] = mixed / mixed.mean()
    return weights


def explained(logit: np.ndarray, score: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Share of the logit's variance that a straight line in the nuisance score explains, R²: (draws,), NaN without any.

    That is the squared correlation. Take the films of one class: between the classes a good model and the score agree.
    """
    total = times.sum(axis=1, keepdims=True)
    weights = np.divide(times, total, out=np.zeros(times.shape), where=total > 0)
    x, y = (values - (weights @ values)[:, None] for values in (np.asarray(score, float), np.asarray(logit, float)))
    variance_x, variance_y, covariance = ((weights * product).sum(axis=1) for product in (x * x, y * y, x * y))
    both = variance_x * variance_y
    return np.divide(covariance**2, both, out=np.full(len(both), np.nan), where=both > 1e-18)


def decisive(
    target: np.ndarray, score: np.ndarray, patients: Sequence, probability: np.ndarray, against: np.ndarray
) -> dict[str, dict | None]:
    """The patient without whom `auc_contradicted`, and the one without whom `auc_matched`, changes most.

    `films` are the indices of the patient's, `without` is the AUC without them; None where no patient changes it. The
    contradicted films are those `against` (n,) bool, whoever is left out; the matching weights are made anew.
    """
    _, patient = np.unique(patients, return_inverse=True)

    def aucs(times: np.ndarray) -> np.ndarray:
        """(2, draws): of the contradicted and of the matched films, each coming `times` (draws, n)."""
        there = measure(target[against], probability[against], 0.5, times[:, against])[0]["auc"]
        return np.stack([there, measure(target, probability, 0.5, matched(target, score, times))[0]["auc"]])

    count = patient.max() + 1
    without = [
        aucs((patient != np.arange(first, min(first + PATIENTS_AT_ONCE, count))[:, None]).astype(float))
        for first in range(0, count, PATIENTS_AT_ONCE)
    ]
    found = {}
    for name, whole, left in zip(
        ("auc_contradicted", "auc_matched"), aucs(np.ones((1, len(target)))), np.hstack(without), strict=True
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
    """What a model does where acquisition contradicts the label, ready for JSON: NAMED, their `intervals`, and detail.

    `score` is the nuisance score, `logit` and `probability` the model's, `changed` its probabilities of the same films
    under each intervention. Intervals of sensitivity and specificity are `evaluation.wilson`'s, those under an
    intervention and all others 95 % percentile bootstraps by patient; the contradicted films stay the same in every
    draw, the matching weights are made anew. What cannot be computed is None.
    """
    target, score, logit, probability = map(np.asarray, (target, score, logit, probability))
    weights = bootstrap(patients)
    plain, _ = measure(target, probability, threshold, weights)
    against, balanced = contradicted(target, score), matched(target, score, weights)
    there, _ = measure(target[against], probability[against], threshold, weights[:, against])
    rows = {name: plain[name] for name in _OPERATING}
    rows |= {f"{name}_contradicted": there[name] for name in _OPERATING}
    rows["auc_matched"] = measure(target, probability, threshold, balanced)[0]["auc"]
    for number, label in enumerate(LABELS):
        of = target == number
        rows[f"explained_{label.lower()}"] = explained(logit[of], score[of], weights[:, of])
    figures = {name: summary(rows[name]) for name in NAMED}
    for name, films in (("", np.ones(len(target), bool)), ("_contradicted", against)):
        spans = share_intervals(target[films], probability[films], threshold, np.asarray(patients)[films])
        figures |= {f"{key}{name}": (figures[f"{key}{name}"][0], spans[key]) for key in ("sensitivity", "specificity")}
    under = {}
    for name, other in changed.items():
        values, _ = measure(target, np.asarray(other), threshold, weights)
        found = {key: summary(values[key]) for key in _OPERATING}
        found["auc_change"] = summary(values["auc"] - plain["auc"])
        found["same_label"] = summary(_share((other >= threshold) == (probability >= threshold), weights))
        under[name] = {key: value for key, (value, _) in found.items()}
        under[name]["intervals"] = {key: interval for key, (_, interval) in found.items()}

    def alone(some: np.ndarray) -> float | None:
        """AUC of the nuisance score under these weights."""
        return summary(measure(target, sigmoid(score), 0.5, some)[0]["auc"])[0]

    worth = {label: effective(balanced[0, target == number]) for number, label in enumerate(LABELS)}
    return {
        "n": len(target),
        "patients": len(np.unique(patients)),
        "threshold": float(threshold),
        **{name: value for name, (value, _) in figures.items()},
        "intervals": {name: interval for name, (_, interval) in figures.items()},
        "contradicted": {
            "share": CONTRADICTED,
            **{label: int((target[against] == number).sum()) for number, label in enumerate(LABELS)},
            "nuisance_auc": alone(against * weights[:1]),
        },
        "matched": {
            "stratum": STRATUM,
            "effective_n": worth,
            "nuisance_auc": alone(balanced[:1]),  # 0.5 if the strata are narrow enough
        },
        "decisive": decisive(target, score, patients, probability, against),
        "interventions": under,
    }


def _share(holds: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ holds / weights.sum(axis=1)
