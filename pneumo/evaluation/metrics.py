"""(target, probability) -> how good the model is, with intervals; and threshold and calibration on validation.

Knows nothing of files or networks. `target` is (n,) with 1 for pneumonia and 0 for normal, `probability` (n,) in 0..1;
a film is called pneumonia when its probability is at the threshold or above. What cannot be computed (a recall
without a positive film, an AUC of one class) is None, never NaN.
"""

import math
from collections.abc import Sequence
from decimal import ROUND_FLOOR, Decimal
from statistics import NormalDist

import numpy as np

SHARES = ("accuracy", "sensitivity", "specificity", "precision")  # of METRICS: each counts films
METRICS = ("auc", "accuracy", "sensitivity", "specificity", "precision", "f1", "brier", "ece")
BINS = 10  # equal-width bins of the expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 3)
_COUNTS = ("tp", "fp", "tn", "fn")


def metrics(target: np.ndarray, probability: np.ndarray, threshold: float) -> dict:
    """Measure one model on one set of films: METRICS, `n`, `threshold`, and `confusion` as counts of films.

    Raises:
        ValueError: no film, lengths that differ, a target other than 0 and 1, or a probability outside 0..1.
    """
    target, probability = _checked(target, probability)
    values, counts = measure(target, probability, threshold, np.ones((1, len(target))))
    named = {name: _plain(values[name][0]) for name in METRICS}
    confusion = {name: int(counts[name][0]) for name in _COUNTS}
    return {"n": len(target), **named, "threshold": float(threshold), "confusion": confusion}


def intervals(
    target: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    groups: Sequence | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, list[float] | None]:
    """95 % interval of each of METRICS, as [low, high]: that of SHARES is Wilson's, the others' a percentile bootstrap.

    `groups` (n,) names the patient of every film: whole patients are drawn, since films of one child are alike and
    drawing them apart gives intervals that are too narrow. Draws where a metric is undefined do not count for it. A
    bootstrap of a share that few films miss would reach 1, though some do.
    """
    target, probability = _checked(target, probability)
    groups = np.arange(len(target)) if groups is None else np.asarray(groups)
    values, _ = measure(target, probability, threshold, resamples(len(target), groups, draws, seed))
    found = {}
    for name in (name for name in METRICS if name not in SHARES):
        defined = values[name][~np.isnan(values[name])]
        found[name] = [float(v) for v in np.percentile(defined, (2.5, 97.5))] if len(defined) else None
    return found | share_intervals(target, probability, threshold, groups)


def share_intervals(
    target: np.ndarray, probability: np.ndarray, threshold: float, groups: Sequence
) -> dict[str, list[float] | None]:
    """The interval of each of SHARES, by `wilson`."""
    right, groups = (probability >= threshold) == (target == 1), np.asarray(groups)
    among = {
        "accuracy": np.ones(len(target), bool),
        "sensitivity": target == 1,
        "specificity": target == 0,
        "precision": probability >= threshold,
    }
    return {name: wilson(right[films], groups[films]) for name, films in among.items()}


def wilson(holds: np.ndarray, groups: Sequence) -> list[float] | None:
    """95 % interval of the share of films of which `holds` (n,) is true, as [low, high]; None of no film.

    Wilson 1927, doi 10.1080/01621459.1927.10502953. There count as many films as if all of one patient were alike: as
    many as patients with that many films each are worth, by `effective`. That is rather too few than too many.
    """
    if not len(holds):
        return None
    _, films = np.unique(groups, return_counts=True)
    n, share, z = effective(films), float(np.mean(holds)), NormalDist().inv_cdf(0.975)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return [max(0.0, float(centre - half)), min(1.0, float(centre + half))]


def effective(weights: np.ndarray) -> float:
    """As many films of equal weight would be as certain: (Σ w)² / Σ w², 0 without weight (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if weights.any() else 0.0


def resamples(n: int, groups: Sequence | None = None, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """Bootstrap of `n` films by patient: (draws, n) float64, how often each film comes in each draw."""
    _, group = np.unique(np.arange(n) if groups is None else np.asarray(groups), return_inverse=True)
    count = group.max() + 1
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)  # (draws, patients)
    return times[:, group].astype(float)


def bootstrap(groups: Sequence) -> np.ndarray:
    """The films as they are, then their `resamples`: (1 + draws, n)."""
    return np.vstack([np.ones(len(groups)), resamples(len(groups), groups)])


def summary(values: np.ndarray) -> tuple[float | None, list[float] | None]:
    """Value and 95 % interval of what was computed on `bootstrap`'s weights, (1 + draws,); None where undefined."""
    drawn = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]):
        return None, None
    return float(values[0]), [float(v) for v in np.percentile(drawn, (2.5, 97.5))] if len(drawn) else None


def measure(
    target: np.ndarray, probability: np.ndarray, threshold: float, weights: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """METRICS and the four counts as (draws,) each, film i counting weights[:, i] times; NaN where undefined.

    `target` and `probability` are (n,) arrays, `weights` (draws, n) 0 or more.
    """
    order = np.argsort(probability, kind="stable")
    target, probability, weights = target[order], probability[order], weights[:, order]
    called = probability >= threshold
    one_hot = np.eye(BINS)[_bin(probability)]  # (n, BINS)
    columns = np.column_stack(
        [
            called * target,
            called * (1 - target),
            ~called * (1 - target),
            ~called * target,
            (probability - target) ** 2,
            one_hot * (probability - target)[:, None],
        ]
    )
    sums = weights @ columns  # (draws, 5 + BINS)
    tp, fp, tn, fn, squares = sums[:, :5].T
    positive, negative = tp + fn, tn + fp
    total = positive + negative

    # AUC as the share of (normal, pneumonia) pairs in the right order, a tie being half a pair (Mann and Whitney)
    starts = np.flatnonzero(np.r_[True, np.diff(probability) > 0])  # where each distinct probability begins
    positives = np.add.reduceat(weights * target, starts, axis=1)  # (draws, distinct)
    negatives = np.add.reduceat(weights * (1 - target), starts, axis=1)
    pairs = (positives * (np.cumsum(negatives, axis=1) - negatives / 2)).sum(axis=1)

    values = {
        "auc": _ratio(pairs, positive * negative),
        "accuracy": _ratio(tp + tn, total),
        "sensitivity": _ratio(tp, positive),
        "specificity": _ratio(tn, negative),
        "precision": _ratio(tp, tp + fp),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "brier": _ratio(squares, total),
        "ece": _ratio(np.abs(sums[:, 5:]).sum(axis=1), total),
    }
    return values, dict(zip(_COUNTS, (tp, fp, tn, fn), strict=True))


def evaluate(target: np.ndarray, probability: np.ndarray, threshold: float, groups: Sequence | None = None) -> dict:
    """What is reported of one set of films, ready for JSON: `metrics` and `intervals`."""
    return metrics(target, probability, threshold) | {"intervals": intervals(target, probability, threshold, groups)}


def reliability(target: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the calibration error is made of: films, mean probability and share of pneumonia of each bin, (BINS,) each.

    An empty bin's mean and share are NaN.
    """
    target, probability = _checked(target, probability)
    columns = np.column_stack([np.ones(len(target)), probability, target])
    films, sum_probability, sum_target = columns.T @ np.eye(BINS)[_bin(probability)]  # (3, BINS)
    return films.astype(int), _ratio(sum_probability, films), _ratio(sum_target, films)


def choose_threshold(target: np.ndarray, probability: np.ndarray, sensitivity: float = 0.97) -> float:
    """The highest threshold that still finds this share of the pneumonias, rounded down to 4 decimals.

    Choose it on validation films, with the probabilities of the served model.

    Raises:
        ValueError: no pneumonia among the films, or a sensitivity outside 0..1.
    """
    target, probability = _checked(target, probability)
    positive = np.sort(probability[target == 1])[::-1]
    if not len(positive) or not 0 < sensitivity <= 1:
        raise ValueError(f"Expected pneumonias and 0 < sensitivity <= 1, received {len(positive)} and {sensitivity}.")
    needed = math.ceil(sensitivity * len(positive) - 1e-9)  # 0.07 · 100 is 7.000000000000001
    exact = Decimal(repr(float(positive[needed - 1])))
    return float(exact.quantize(Decimal("0.0001"), ROUND_FLOOR))


def choose_specific_threshold(target: np.ndarray, probability: np.ndarray, specificity: float = 0.98) -> float:
    """The lowest threshold of 4 decimals below which this share of the normals lies.

    Raises:
        ValueError: no normal among the films, or a specificity outside 0..1.
    """
    target, probability = _checked(target, probability)
    negative = np.sort(probability[target == 0])
    if not len(negative) or not 0 < specificity <= 1:
        raise ValueError(f"Expected normals and 0 < specificity <= 1, received {len(negative)} and {specificity}.")
    needed = math.ceil(specificity * len(negative) - 1e-9)
    step = Decimal("0.0001")
    # a whole step above, since a film at the threshold is called pneumonia
    return float(Decimal(repr(float(negative[needed - 1]))).quantize(step, ROUND_FLOOR) + step)


def fit_platt(target: np.ndarray, logit: np.ndarray, intercept: bool = True) -> tuple[float, float]:
    """Slope and intercept of probability = sigmoid(slope · logit + intercept), by maximum likelihood.

    Without `intercept` that is 0 and the slope the inverse of a temperature (Guo et al. 2017, section 4.2).

    As in Platt 1999, section 2.2, a pneumonia counts as (P + 1) / (P + 2) and a normal as 1 / (N + 2) of one, for P and
    N films: without that, few films that the logits separate entirely would have no finite slope.

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


def _checked(target: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as (n,) float64, or a ValueError that says what came instead."""
    target, probability = np.asarray(target, float), np.asarray(probability, float)
    if target.ndim != 1 or target.shape != probability.shape or not len(target):
        raise ValueError(f"Expected two arrays (n,) with n > 0, received {target.shape} and {probability.shape}.")
    if not np.isin(target, (0, 1)).all():
        raise ValueError("Expected targets of 0 and 1, received others.")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("Expected probabilities in 0..1, received others.")
    return target, probability


def _bin(probability: np.ndarray) -> np.ndarray:
    """Index of each probability's bin: [0, 0.1), [0.1, 0.2), … [0.9, 1]."""
    return np.minimum((probability * BINS).astype(int), BINS - 1)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole != 0)


def _plain(value: float) -> float | None:
    """A Python float for JSON, None for NaN."""
    return None if math.isnan(value) else float(value)
