"""The acquisition score of films, and what follows from it: which films contradict their label, and matching weights.

The acquisition score of a film is the log-odds of PNEUMONIA that numbers of its acquisition (`data.acquisition`: sizes,
sharpness, tone, border, markers) give by themselves.

Arrays have one entry a film, (n,): `target` is 1 for pneumonia and 0 for normal, `score` the acquisition score,
`patients` names whose film it is. Only `score_films` reads files.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pneumo import LABELS
from pneumo.data.acquisition import FEATURES, measure_acquisition
from pneumo.data.dataset import Example, content_hashes, number_patients
from pneumo.errors import PneumoError

TOLD = {  # besides acquisition.GROUPS, where labels.csv tells it
    "view and label source": {
        "view": "1 for AP, 0 for PA",
        "by_text": "1 where a program took the label from a report",
    }
}
FOLDS = 5
MIN_PATIENTS = 10  # of each label: two in every fold
CONTRADICTED = 0.3  # share of each class whose acquisition looks most like the other's
STRATUM = 0.5  # width of a stratum of the acquisition score: within it the odds vary by at most exp(0.5) = 1.6


def score_acquisition(
    measured: Sequence[Mapping[str, float]],
    target: np.ndarray,
    patients: Sequence,
    names: Sequence[str] = FEATURES,
    seed: int = 0,
) -> np.ndarray:
    """Compute the acquisition score from these `names` of the `measured` numbers: (n,) float64.

    Gradient-boosted trees (scikit-learn); each film is scored by trees that saw no film of its patient.

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


def describe_told(examples: Sequence[Example]) -> list[dict[str, float]]:
    """Put what labels.csv tells of each film into numbers, as TOLD names them; nothing where it tells no view."""
    if all(example.view is None for example in examples):
        return [{}] * len(examples)
    views = {"AP": 1.0, "PA": 0.0}
    return [{"view": views.get(e.view, np.nan), "by_text": float(e.by_text)} for e in examples]


def score_films(examples: Sequence[Example]) -> np.ndarray:
    """Read labelled films and compute their acquisition score: (n,) float64.

    Raises:
        FormatError, TooLargeError, UnreadableError: see `images.decode`.
    """
    with ThreadPoolExecutor() as pool:
        measured = list(pool.map(lambda example: measure_acquisition(example.path.read_bytes()), examples))
    patients = number_patients(examples, content_hashes(examples))
    return score_acquisition(measured, [e.target for e in examples], patients)


def find_contradicted(target: np.ndarray, score: np.ndarray, share: float = CONTRADICTED) -> np.ndarray:
    """Find the films whose acquisition contradicts their label: (n,) bool.

    They are this `share` of the normals, those with the highest score, and of the pneumonias, those with the lowest;
    rounded to films, at least one of each.
    """
    target, against = np.asarray(target), np.where(np.asarray(target) == 1, -1, 1) * np.asarray(score)
    chosen = np.zeros(len(target), bool)
    for number in range(len(LABELS)):
        films = np.flatnonzero(target == number)
        count = min(len(films), max(1, round(share * len(films))))
        chosen[films[np.argsort(-against[films], kind="stable")[:count]]] = True
    return chosen


def match(target: np.ndarray, score: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Weigh films so that the acquisition score says nothing: (draws, n); `times` counts each film in each draw.

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
