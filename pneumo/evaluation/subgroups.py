"""For which films the model is better or worse: one threshold, measured on kinds of films apart.

Arrays have one entry a film, (n,): `target` is 1 for pneumonia and 0 for normal, `probability` calibrated in 0..1.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from pneumo.evaluation.metrics import measure_point

THIRDS = ("lowest third", "middle third", "highest third")
ALL = "all films"


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
