"""Does a film keep its label when it is changed as happens on its way to the server?"""

from collections.abc import Callable, Sequence

import numpy as np

from pneumo.data.changes import EVERYDAY, mask_borders, mask_corners
from pneumo.evaluation.metrics import bound_share

CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "corners masked": mask_corners,
    "borders masked": mask_borders,
    **EVERYDAY,
}


def measure_changes(
    compute_logits: Callable[[Sequence[np.ndarray]], np.ndarray], films: np.ndarray, limit: float, patients: Sequence
) -> dict[str, dict]:
    """Measure how many films keep their label under each of CHANGES.

    `films` are (n, SIZE, SIZE) uint8, labelled PNEUMONIA from the logit `limit` on. By change: `n`, the share of the
    `same_label`, and its `intervals`.
    """
    before = compute_logits(films) >= limit
    found = {}
    for name, change in CHANGES.items():
        same = (compute_logits([change(film) for film in films]) >= limit) == before
        span = bound_share(same, patients)
        found[name] = {"n": len(same), "same_label": float(same.mean()), "intervals": {"same_label": span}}
    return found
