"""Does the heat map point at the opacity? Its strongest position, and its colour, against radiologists' boxes.

The pointing game (Zhang et al. 2018, doi 10.1007/s11263-017-1059-x), on the n films that have boxes. Arrays:
`maps` (n, h, w) logits, `strengths` (n, h, w) 0..1 as the page shows them, `covered` (n, h, w) 0..1 (`cover`).
"""

from collections.abc import Sequence

import numpy as np

from pneumo.data.dataset import Box
from pneumo.evaluation.metrics import bootstrap, bound_share, summarise
from pneumo.model.card import ALL

FINE = 8  # of a position's side: boxes are drawn on a grid so many times as fine
INSIDE = 0.5  # a position lies in a box if this share of it does


def cover(boxes: Sequence[Box], positions: int) -> np.ndarray:
    """Compute which share of each of positions × positions lies in one of the boxes: (p, p) float32 in 0..1."""
    fine = np.zeros((positions * FINE, positions * FINE), np.float32)
    for box in boxes:
        left, top, right, bottom = np.rint(np.clip(box, 0, 1) * len(fine)).astype(int)
        fine[top:bottom, left:right] = 1
    return fine.reshape(positions, FINE, positions, FINE).mean(axis=(1, 3))


def measure_pointing(
    maps: np.ndarray,
    strengths: np.ndarray,
    covered: np.ndarray,
    patients: Sequence,
    views: Sequence[str | None],
) -> dict[str, dict]:
    """Measure where the heat map points, on all films and on those of each view.

    Each has `n`; `pointing`, the share of films whose strongest position lies in a box, and `chance`, that of a
    position drawn at random. Of the `coloured` films, as many as have colour, it has `inside`, the mean share of the
    colour that lies in boxes, and `area`, the mean share of the film that they cover; None where there are none. What
    the model does has its `intervals`.
    """
    patients, views = np.asarray(patients), np.asarray(views, dtype=object)
    groups = {ALL: np.ones(len(maps), bool)}
    groups |= {f"view {view}": views == view for view in sorted(set(views.tolist()) - {None})}
    hits = covered.reshape(len(maps), -1) >= INSIDE  # (n, positions)
    strongest = maps.reshape(len(maps), -1).argmax(axis=1)
    found = hits[np.arange(len(maps)), strongest]
    colour = strengths.sum(axis=(1, 2))
    inside = np.divide((strengths * covered).sum(axis=(1, 2)), colour, out=np.zeros(len(maps)), where=colour > 0)
    return {
        name: {
            "n": int(films.sum()),
            "pointing": float(found[films].mean()),
            "chance": float(hits[films].mean()),
            "coloured": int((coloured := films & (colour > 0)).sum()),
            "inside": float(inside[coloured].mean()) if coloured.any() else None,
            "area": float(covered[coloured].mean()) if coloured.any() else None,
            "intervals": {
                "pointing": bound_share(found[films], patients[films]),
                "inside": _bound_mean(inside[coloured], patients[coloured]),
            },
        }
        for name, films in groups.items()
    }


def _bound_mean(shares: np.ndarray, patients: np.ndarray) -> list[float] | None:
    """Bootstrap the mean of the films' shares (n,) by patient; None of no film."""
    if not len(shares):
        return None
    weights = bootstrap(patients)
    return summarise(weights @ shares / weights.sum(axis=1))[1]
