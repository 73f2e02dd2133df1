"""For which films the model is better or worse: one threshold, measured on groups of films apart.

Arrays have one entry a film, (n,): `target` is 1 for pneumonia and 0 for normal, `probability` calibrated in 0..1.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from pneumo import LABELS
from pneumo.data.dataset import OTHER, Example
from pneumo.evaluation.metrics import bootstrap, measure_draws, measure_point, summarise
from pneumo.model.card import ALL

THIRDS = ("lowest third", "middle third", "highest third")
READ, BY_TEXT = "read by radiologists", "labelled by text"


def measure_subgroups(
    target: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    patients: Sequence,
    aetiologies: Sequence[str | None],
    measured: Mapping[str, Sequence[float]],
) -> dict[str, dict[str, dict]]:
    """Apply `measure_point` to the films of each aetiology, and to thirds of the films by each of `measured`.

    `aetiologies` (n,) has None where a film's is not known. A third also has the `range` of its values. Equal values
    stay in one third, so there may be fewer than three; films that are all alike are ALL.
    """
    target, probability, patients = np.asarray(target), np.asarray(probability, float), np.asarray(patients)
    aetiologies = np.asarray(aetiologies, dtype=object)

    def measure(films: np.ndarray) -> dict:
        return measure_point(target[films], probability[films], threshold, patients[films])

    found = {"aetiology": {name: measure(aetiologies == name) for name in sorted(set(aetiologies) - {None})}}
    for name, values in measured.items():
        values = np.asarray(values, float)
        third = divide_into_thirds(values)
        found[name] = {
            THIRDS[number] if len(set(third)) > 1 else ALL: {
                "range": [float(values[third == number].min()), float(values[third == number].max())],
                **measure(third == number),
            }
            for number in sorted(set(third.tolist()))
        }
    return found


def divide_into_thirds(values: np.ndarray) -> np.ndarray:
    """Index into THIRDS of each of `values`, (n,) int; equal values have the same."""
    return np.searchsorted(np.quantile(values, (1 / 3, 2 / 3)), values)


def find_strata(examples: Sequence[Example]) -> dict[str, np.ndarray]:
    """Find the films of each stratum, (n,) bool by name: all, those that were read, labelled by text, of each view.

    A label that a program took from a report is worse than a radiologist's, and a bedside film (AP) of another patient
    than an upright one (PA): one figure of all of them says little. Nothing is divided by what is not known.
    """
    by_text = np.array([example.by_text for example in examples])
    read = np.array([example.read_by is not None for example in examples]) & ~by_text
    views = np.array([example.view or "" for example in examples])
    both = by_text.any() and read.any()
    found = {ALL: np.ones(len(examples), bool)} | ({READ: read, BY_TEXT: by_text} if both else {})
    for view in sorted(set(views.tolist()) - {""}):
        found[f"view {view}"] = views == view
        if both and (read & (views == view)).any():
            found[f"view {view}, {READ}"] = read & (views == view)
    return found


def measure_strata(
    examples: Sequence[Example], probability: np.ndarray, threshold: float, patients: Sequence
) -> dict[str, dict]:
    """Measure the films of each of `find_strata`: how many there are by label, `measure_point`, and two AUCs.

    `auc` is that of pneumonias against all other films; `auc_normal` that against films of the label NORMAL alone,
    None where no other label is among them. Both have their `intervals`, bootstraps by patient.
    """
    probability, patients = np.asarray(probability, float), np.asarray(patients)
    target = np.array([example.target for example in examples])
    labels = np.array([example.label for example in examples])
    found = {}
    for name, films in find_strata(examples).items():
        of = {"auc": films, "auc_normal": films & (labels != OTHER)}
        if of["auc_normal"].sum() in (0, films.sum()):
            del of["auc_normal"]
        aucs = {"auc_normal": (None, None)}
        for auc, some in of.items():
            draws, _ = measure_draws(target[some], probability[some], threshold, bootstrap(patients[some]))
            aucs[auc] = summarise(draws["auc"])
        point = measure_point(target[films], probability[films], threshold, patients[films])
        found[name] = point | {
            "labels": {label: int((labels[films] == label).sum()) for label in (*LABELS, OTHER)},
            **{auc: value for auc, (value, _) in aucs.items()},
            "intervals": point["intervals"] | {auc: span for auc, (_, span) in aucs.items()},
        }
    return found
