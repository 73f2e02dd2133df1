"""For whom is the model better and for whom worse: one operating point, measured on groups of films apart.

Arrays are (n,), one entry a film: `target` is 1 for pneumonia and 0 for normal, `probability` calibrated in 0..1.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from pneumo.evaluation.thresholds import worth

THIRDS = ("lowest third", "middle third", "highest third")
ALL = "all films"


def subgroups(
    target: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    patients: Sequence,
    kinds: Sequence[str | None],
    measured: Mapping[str, Sequence[float]],
) -> dict[str, dict[str, dict]]:
    """What `operating.worth` measures, for each of the `kinds` under `aetiology`, and for thirds of each of `measured`.

    `kinds` (n,) are aetiologies, None where a film's is not known. Of a third there is the `range` of its values too;
    equal values stay in one third, so that there may be fewer, and of films that are all alike it is ALL.
    """
    target, probability, patients = np.asarray(target), np.asarray(probability, float), np.asarray(patients)
    kinds = np.asarray(kinds, dtype=object)

    def of(films: np.ndarray) -> dict:
        return worth(target[films], probability[films], threshold, patients[films])

    found = {"aetiology": {kind: of(kinds == kind) for kind in sorted({kind for kind in kinds if kind})}}
    for name, values in measured.items():
        values = np.asarray(values, float)
        third = thirds(values)
        found[name] = {
            THIRDS[number] if len(set(third)) > 1 else ALL: {
                "range": [float(values[third == number].min()), float(values[third == number].max())],
                **of(third == number),
            }
            for number in sorted(set(third.tolist()))
        }
    return found


def thirds(values: np.ndarray) -> np.ndarray:
    """Index into THIRDS of each of `values`, (n,) int; equal values have the same."""
    return np.searchsorted(np.quantile(values, (1 / 3, 2 / 3)), values)
