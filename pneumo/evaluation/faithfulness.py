"""Is the heat map true to the model? Blur what it marks, and see whether the logit falls more than elsewhere.

A deletion curve (Samek et al. 2017, doi 10.1109/TNNLS.2016.2599820). Deleted positions are blurred, not painted grey:
a grey square draws four edges that no film has. On films of the train folder scattered grey squares lowered the logit
more than as many in one heap, whatever they covered, so the curve measured edges. Therefore there are two controls:
random positions, which lie scattered, and the marked ones moved to another place, which keep their shape. Whether the
map lies on the pneumonia is another question.
"""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageFilter

from pneumo.evaluation.metrics import bootstrap, summarise
from pneumo.model.card import sigmoid
from pneumo.model.heatmap import pool

FILMS = 60  # at most
SHARES = (0.05, 0.1, 0.2, 0.4)  # of the map's positions
TOLD = 0.2  # the share that `describe_drops` reports
DRAWS = 4  # of each control, a film
STRONGEST, RANDOM, MOVED = WAYS = ("strongest", "random", "moved")
SEED = 0
REPLACED_BY = "a Gaussian blur of the film, its deviation as wide as one position"


def choose_films(target: np.ndarray, called: np.ndarray, seed: int = SEED) -> list[int]:
    """Choose at most FILMS pneumonias that are called so: their indices, rising; both arrays are (n,) of 0 and 1."""
    found = np.flatnonzero((np.asarray(target) == 1) & np.asarray(called, bool))
    return sorted(int(i) for i in np.random.default_rng(seed).permutation(found)[:FILMS])


def delete(film: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Blur (S, S) uint8 at the positions (h, w) bool of the map, each a square of S / h pixels."""
    side = len(film) // len(positions)
    blurred = np.asarray(Image.fromarray(film).filter(ImageFilter.GaussianBlur(side)))
    return np.where(np.kron(positions, np.ones((side, side), bool)), blurred, film)


def measure_drops(
    film: np.ndarray,
    logit_map: Callable[[np.ndarray], np.ndarray],
    seed: int | Sequence[int] = SEED,
    sharpness: float = 0.0,
) -> tuple[float, np.ndarray]:
    """Measure a film's logit, and its logits with positions deleted: (SHARES, WAYS, DRAWS) float64.

    `film` is (S, S) uint8. `logit_map` makes (h, w) logits of it, which `heatmap.pool` makes the film's; h and w divide
    S. The strongest positions are deleted once, so their draws are alike.
    """
    rng = np.random.default_rng(seed)
    strength = logit_map(film)
    ranked = np.argsort(-strength, axis=None, kind="stable")
    after = np.empty((len(SHARES), len(WAYS), DRAWS))

    def without(positions: np.ndarray) -> float:
        return float(pool(logit_map(delete(film, positions)), sharpness))

    for row, share in zip(after, SHARES, strict=True):
        count = round(share * strength.size)
        marked = _mask(ranked[:count], strength.shape)
        row[WAYS.index(STRONGEST)] = without(marked)
        for draw in range(DRAWS):
            scattered = _mask(rng.permutation(strength.size)[:count], strength.shape)
            away = tuple(int(rng.integers(1, length)) for length in strength.shape)
            row[WAYS.index(RANDOM), draw] = without(scattered)
            row[WAYS.index(MOVED), draw] = without(np.roll(marked, away, axis=(0, 1)))
    return float(pool(strength, sharpness)), after


def summarise_drops(
    before: Sequence[float], after: Sequence[np.ndarray], slope: float, intercept: float, patients: Sequence
) -> dict:
    """Average the drops that `measure_drops` found on n films, ready for JSON; `patients` (n,) says whose they are.

    `curve` has an entry for each of SHARES: by how much each of WAYS lowers the calibrated logit and the probability,
    and `more_than_random` and `more_than_moved`, by how much more the strongest positions do; `intervals` are 95 %
    bootstraps by patient. `slope` and `intercept` calibrate the network's logits.
    """

    def calibrated(logit: np.ndarray) -> np.ndarray:
        return slope * logit + intercept

    weights = bootstrap(patients)  # (1 + draws, n)
    start, rest = np.asarray(before), np.asarray(after)  # (n,), (n, SHARES, WAYS, DRAWS)
    drops = {
        name: (of(start)[:, None, None] - of(rest).mean(axis=3))  # (n, SHARES, WAYS)
        for name, of in (("logit", calibrated), ("probability", lambda logit: sigmoid(calibrated(logit))))
    }

    def entry(values: dict[str, np.ndarray]) -> dict:
        found = {name: summarise(weights @ drop / weights.sum(axis=1)) for name, drop in values.items()}
        return {n: v for n, (v, _) in found.items()} | {"intervals": {n: span for n, (_, span) in found.items()}}

    curve = []
    for number, share in enumerate(SHARES):
        of = {way: {name: drop[:, number, i] for name, drop in drops.items()} for i, way in enumerate(WAYS)}
        for way in (RANDOM, MOVED):
            of[f"more_than_{way}"] = {name: of[STRONGEST][name] - of[way][name] for name in drops}
        curve.append({"share": share} | {name: entry(values) for name, values in of.items()})
    return {"films": len(start), "draws": DRAWS, "replaced_by": REPLACED_BY, "curve": curve}


def describe_drops(result: dict, share: float = TOLD) -> str:
    """Say what the curve shows at one share of the map, and whether the difference is more than chance."""
    point = next(point for point in result["curve"] if point["share"] == share)
    more = point["more_than_random"]
    low, high = more["intervals"]["logit"]
    if low > 0:
        verdict = "what the map marks matters more to the model than chance would have it"
    else:
        verdict = "that what the map marks matters more than chance is not shown"
    taken = {way: f"{point[way]['logit']:.2f}".replace("-", "−") for way in WAYS}
    aside = " (blur alone speaks for pneumonia)" if point[RANDOM]["intervals"]["logit"][1] < 0 else ""
    return (
        f"Blurring the strongest {100 * share:.0f} % of the map takes {taken[STRONGEST]} off the logit of "
        f"{result['films']} pneumonias called so, on average; as many random positions {taken[RANDOM]}{aside}, the "
        f"same shape elsewhere {taken[MOVED]}. That is {more['logit']:.2f} ({low:.2f} to {high:.2f}) more than random: "
        f"{verdict}."
    )


def _mask(indices: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Array of `shape`, True at these flat indices."""
    mask = np.zeros(int(np.prod(shape)), bool)
    mask[indices] = True
    return mask.reshape(shape)
