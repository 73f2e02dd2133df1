"""Sort films by population; teach the row that tells children's films from adults' by the gate's features, measure it.

The two come from two hospitals, so whatever differs between hospitals would tell them apart, a black border first of
all: a row that was taught by films as they are took 92 % of the children with an 8 % border for adults. So both are
taught as they are and augmented in the same way, and the row is measured with what may happen to a film on its way.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pneumo.data.changes import EVERYDAY
from pneumo.data.dataset import Example
from pneumo.films.film import squash
from pneumo.model.population import SURE, Row
from pneumo.training.statements import AGES, CHILD

BORDER = 0.08  # of a side: black border and crop that the row is measured with
GAMMAS = (0.6, 1.6)
MEASURED = 150  # films of each population


def sort_by_population(parts: Mapping[str, Sequence[Example]]) -> dict[str, dict[str, list[Example]]]:
    """Sort the films of each part by the population in whose AGES the patient is.

    Where nothing tells the age the patient is a child, as in the first source. Patients of other ages are left out:
    they teach, but no figure is of them. A population without any film is left out, too.
    """

    def find(example: Example) -> str | None:
        if example.age is None:
            return CHILD
        inside = (
            n for n, (first, last) in AGES.items() if first <= example.age and (last is None or example.age <= last)
        )
        return next(inside, None)

    sorted_films = {name: {part: [e for e in parts[part] if find(e) == name] for part in parts} for name in AGES}
    return {name: own for name, own in sorted_films.items() if all(own.values())}


def shrink(film: np.ndarray) -> np.ndarray:
    """Put (S, S) uint8 into a black border of BORDER on every side, smaller."""
    edge = round(BORDER * len(film))
    return np.pad(squash(film, len(film) - 2 * edge), edge)


def crop(film: np.ndarray) -> np.ndarray:
    """Cut BORDER off every side of (S, S) uint8."""
    edge = round(BORDER * len(film))
    return film[edge:-edge, edge:-edge]


def to_gamma(film: np.ndarray, gamma: float) -> np.ndarray:
    """Raise the greys of uint8, as shares of 255, to a power: below 1 brighter, above 1 darker."""
    return (255 * (film / 255) ** gamma).round().astype(np.uint8)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as they are": lambda film: film,
    f"black border of {BORDER:.0%}": shrink,
    f"cropped by {BORDER:.0%}": crop,
    **{f"gamma {gamma}": lambda film, gamma=gamma: to_gamma(film, gamma) for gamma in GAMMAS},
    **{name: change for name, change in EVERYDAY.items() if not name.startswith("flipped")},
}


def find_directions(x: np.ndarray, components: int, seed: int, deviation: np.ndarray | None = None) -> np.ndarray:
    """Find the directions (d, k) in which features (n, d) vary most, each over its `deviation` (d,), or else its own.

    A feature that hardly varies between films must not decide alone: no deviation counts as less than 0.01.
    """
    from sklearn.decomposition import PCA

    scale = 1 / np.maximum(x.std(axis=0) if deviation is None else deviation, 0.01)
    mix = PCA(min(components, *x.shape), random_state=seed).fit((x - x.mean(axis=0)) * scale)
    return mix.components_.T * scale[:, None]


def pick(films: Sequence, count: int) -> list:
    """Pick so many films, evenly spread: those of one label lie side by side."""
    return [films[i] for i in np.linspace(0, len(films) - 1, min(count, len(films))).round().astype(int)]


def fit_row(taught: Mapping[str, np.ndarray], project: np.ndarray) -> Row:
    """Fit the row to features (n, d) of each population; `project` (d, k) are the directions that it may use."""
    from sklearn.linear_model import LogisticRegression

    names = tuple(taught)
    x = np.concatenate([taught[name] for name in names])
    which = np.repeat(np.arange(len(names)), [len(taught[name]) for name in names])
    origin = x.mean(axis=0)
    fit = LogisticRegression(C=0.01, max_iter=2000, class_weight="balanced").fit((x - origin) @ project, which)
    # of two classes there is one row, of the second: the first one's is 0
    rows, bias = fit.coef_, fit.intercept_
    if len(names) == 2:
        rows, bias = np.concatenate([np.zeros_like(rows), rows]), np.concatenate([[0.0], bias])
    weights = project @ rows.T
    return Row(names, weights.astype(np.float32), (bias - origin @ weights).astype(np.float32))


def measure_row(row: Row, films: Mapping[str, np.ndarray], seen: Callable[[list[np.ndarray]], np.ndarray]) -> dict:
    """Measure the row on (n, S, S) uint8 films of each population that taught nothing, changed as CHANGES has it.

    `seen` makes the features (n, d) of films. By change and population: `n`, the share that is `right`, and the share
    that is `unclear`, below SURE.
    """
    measured = {}
    for change, changed in CHANGES.items():
        measured[change] = {}
        for name, some in films.items():
            shares = [row.shares(x) for x in seen([changed(film) for film in pick(some, MEASURED)])]
            measured[change][name] = {
                "n": len(shares),
                "right": float(np.mean([max(share, key=share.get) == name for share in shares])),
                "unclear": float(np.mean([max(share.values()) < SURE for share in shares])),
            }
    return measured
