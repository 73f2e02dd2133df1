"""How good a model is on labelled films: figures, each with a 95 % interval.

Arrays have one entry a film, (n,): `target` is 1 for pneumonia and 0 for normal, `probability` lies in 0..1, `patients`
names whose film it is. A film is called pneumonia when its probability is at the threshold or above. A figure that is
undefined (sensitivity without a pneumonia, AUC of one class) is None, in weighted draws NaN.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from pneumo import LABELS
from pneumo.model.card import TRIAGE

SHARES = ("accuracy", "sensitivity", "specificity", "precision")  # of METRICS: each counts films
METRICS = ("auc", "accuracy", "sensitivity", "specificity", "precision", "f1", "brier", "ece")
BINS = 10  # equal-width bins of the expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 3)
POINT_FIGURES = ("sensitivity", "specificity")  # of METRICS: each is of one label's films
_COUNTS = ("tp", "fp", "tn", "fn")


def evaluate(target: np.ndarray, probability: np.ndarray, threshold: float, patients: Sequence | None = None) -> dict:
    """Measure a model on one set of films, with intervals, ready for JSON: see `measure` and `estimate_intervals`."""
    found = measure(target, probability, threshold)
    return found | {"intervals": estimate_intervals(target, probability, threshold, patients)}


def measure(target: np.ndarray, probability: np.ndarray, threshold: float) -> dict:
    """Measure a model on one set of films: METRICS, `n`, `threshold`, `confusion` in films, and `ece_expected`.

    Raises:
        ValueError: no film, lengths that differ, a target other than 0 and 1, or a probability outside 0..1.
    """
    target, probability = check(target, probability)
    values, counts = measure_draws(target, probability, threshold, np.ones((1, len(target))))
    named = {name: None if math.isnan(values[name][0]) else float(values[name][0]) for name in METRICS}
    confusion = {name: int(counts[name][0]) for name in _COUNTS}
    expected = expect_ece(probability)
    return {"n": len(target), **named, "ece_expected": expected, "threshold": float(threshold), "confusion": confusion}


def expect_ece(probability: np.ndarray) -> float:
    """Compute the ECE that chance alone gives n films whose probabilities (n,) are exactly right: about 0.8 · σ a bin.

    The sum of target − probability in a bin then has the variance Σ p (1 − p), and a normal distribution's mean
    distance from its mean is σ · √(2 / π).
    """
    variance = np.bincount(_bin(probability), probability * (1 - probability), BINS)
    return float(np.sqrt(2 / np.pi * variance).sum() / len(probability))


def estimate_intervals(
    target: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    patients: Sequence | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, list[float] | None]:
    """Give the 95 % interval of each of METRICS, as [low, high]: Wilson's for SHARES, else a percentile bootstrap.

    The bootstrap draws whole patients, because films of one patient are alike; without `patients` each film is a
    patient. It ignores draws in which a metric is undefined. SHARES are not bootstrapped: where few films are wrong,
    many draws hold none of them, and the interval would reach 1.
    """
    target, probability = check(target, probability)
    patients = np.arange(len(target)) if patients is None else np.asarray(patients)
    values, _ = measure_draws(target, probability, threshold, resample(patients, draws, seed))
    found = {name: _percentiles(values[name]) for name in METRICS if name not in SHARES}
    return found | estimate_share_intervals(target, probability, threshold, patients)


def estimate_share_intervals(
    target: np.ndarray, probability: np.ndarray, threshold: float, patients: Sequence
) -> dict[str, list[float] | None]:
    """Give the 95 % interval of each of SHARES, by `bound_share`."""
    right, patients = (probability >= threshold) == (target == 1), np.asarray(patients)
    among = {
        "accuracy": np.ones(len(target), bool),
        "sensitivity": target == 1,
        "specificity": target == 0,
        "precision": probability >= threshold,
    }
    return {name: bound_share(right[films], patients[films]) for name, films in among.items()}


def bound_share(holds: np.ndarray, patients: Sequence) -> list[float] | None:
    """Give the 95 % interval of the share of films for which `holds` (n,) is true, as [low, high]; None of no film.

    Wilson's interval (1927, doi 10.1080/01621459.1927.10502953) for `count_effective` films, as if all films of a
    patient were alike: rather too wide than too narrow. That count is no whole number, and `scipy.stats.binomtest`
    takes whole numbers only.
    """
    if not len(holds):
        return None
    n, share, z = count_effective(count_films(patients)), float(np.mean(holds)), NormalDist().inv_cdf(0.975)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return [max(0.0, float(centre - half)), min(1.0, float(centre + half))]


def count_films(patients: Sequence) -> np.ndarray:
    """Count the films of each patient: (patients,) int."""
    return np.unique(np.asarray(patients), return_counts=True)[1]


def count_effective(weights: np.ndarray) -> float:
    """How many equally weighted films give the same certainty: (Σ w)² / Σ w², 0 without weight (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if weights.any() else 0.0


def resample(patients: Sequence, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """Draw patients with replacement: (draws, n) float64, how often each film comes in each draw."""
    _, patient = np.unique(np.asarray(patients), return_inverse=True)
    count = patient.max() + 1
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)  # (draws, patients)
    return times[:, patient].astype(float)


def bootstrap(patients: Sequence) -> np.ndarray:
    """Stack the films as they are, each once, and `resample`d: (1 + draws, n)."""
    return np.vstack([np.ones(len(patients)), resample(patients)])


def summarise(values: np.ndarray) -> tuple[float | None, list[float] | None]:
    """Value and 95 % interval of a figure computed on `bootstrap`'s weights, (1 + draws,); None where undefined."""
    return (None, None) if np.isnan(values[0]) else (float(values[0]), _percentiles(values[1:]))


def measure_point(target: np.ndarray, probability: np.ndarray, threshold: float, patients: Sequence) -> dict:
    """Measure one threshold: `n`, sensitivity, specificity, their `intervals` and the `confusion`."""
    target, probability = check(target, probability)
    found = measure(target, probability, threshold)
    spans = estimate_share_intervals(target, probability, threshold, patients)
    return {
        "n": found["n"],
        **{name: found[name] for name in POINT_FIGURES},
        "confusion": found["confusion"],
        "intervals": {name: spans[name] for name in POINT_FIGURES},
    }


def measure_triage(
    target: np.ndarray, probability: np.ndarray, rule_out: float, rule_in: float, threshold: float, patients: Sequence
) -> dict:
    """Measure what leaving films open gains: shares with their `intervals`, and counts of films in `films`.

    `uncertain` is the share of films from `rule_out` on and below `rule_in`. The others are settled, as NORMAL below
    and PNEUMONIA above: `settled_sensitivity`, `settled_specificity` and `settled_error` (the share called wrongly)
    are theirs, `error` that of all films at `threshold`. What cannot be computed is None.
    """
    target, probability = np.asarray(target), np.asarray(probability, float)
    where = (probability >= rule_out).astype(int) + (probability >= rule_in)  # index into TRIAGE
    positive, ruled_in, settled = target == 1, where == 2, where != 1
    patients, every = np.asarray(patients), np.ones(len(target), bool)

    def share(of: np.ndarray, among: np.ndarray) -> tuple[float | None, list[float] | None]:
        return (float(of[among].mean()) if among.any() else None), bound_share(of[among], patients[among])

    shares = {
        "uncertain": share(~settled, every),
        "settled_sensitivity": share(ruled_in, settled & positive),
        "settled_specificity": share(~ruled_in, settled & ~positive),
        "settled_error": share(ruled_in != positive, settled),
        "error": share((probability >= threshold) != positive, every),
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


def measure_draws(
    target: np.ndarray, probability: np.ndarray, threshold: float, weights: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Compute METRICS and the four counts as (draws,) each, film i counting weights[:, i] times; NaN where undefined.

    `target` and `probability` are (n,) arrays, `weights` (draws, n) 0 or more. All draws at once are some hundred times
    as fast as scikit-learn's functions called for each.
    """
    order = np.argsort(probability, kind="stable")
    target, probability, weights = target[order], probability[order], weights[:, order]
    called = probability >= threshold
    columns = np.column_stack(
        [
            called * target,
            called * (1 - target),
            ~called * (1 - target),
            ~called * target,
            (probability - target) ** 2,
            np.eye(BINS)[_bin(probability)] * (probability - target)[:, None],
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


def check(target: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both as (n,) float64.

    Raises:
        ValueError: no film, lengths that differ, a target other than 0 and 1, or a probability outside 0..1.
    """
    target, probability = np.asarray(target, float), np.asarray(probability, float)
    if target.ndim != 1 or target.shape != probability.shape or not len(target):
        raise ValueError(f"Expected two arrays (n,) with n > 0, received {target.shape} and {probability.shape}.")
    if not np.isin(target, (0, 1)).all():
        raise ValueError("Expected targets of 0 and 1, received others.")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("Expected probabilities in 0..1, received others.")
    return target, probability


def _bin(probability: np.ndarray) -> np.ndarray:
    """Number each film's bin: [0, 0.1), [0.1, 0.2), … [0.9, 1]."""
    return np.minimum((probability * BINS).astype(int), BINS - 1)


def _percentiles(values: np.ndarray) -> list[float] | None:
    """Percentiles 2.5 and 97.5 of the defined values; None without any."""
    defined = values[~np.isnan(values)]
    return [float(v) for v in np.percentile(defined, (2.5, 97.5))] if len(defined) else None


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole != 0)
