"""Fit VGG-16's heat map: how much each position adds to the logit, measured by blurring positions.

The logits in which the head ends average to the film's logit, but they need not be high where the pneumonia is: every
position of the last block sees most of the film. So a second, linear readout of the same features is fitted to how much
lower the logit is without a position. That is an additive attribution by least squares over sets of positions (Lundberg
and Lee 2017, arXiv 1705.07874), learned for all films at once so that one forward pass gives it (cf. Jethani et al.
2022, arXiv 2107.07436). The film's logit stays the same.
"""

import keras
import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from pneumo.evaluation.faithfulness import REPLACED_BY, delete
from pneumo.films.film import to_input
from pneumo.training.networks import ATTRIBUTION_LAYERS, LOGIT_NAME, kernel_names

OWN = 0.5  # the position's share of its logit; the rest is the film's, which keeps normal films below pneumonias
FILMS = 800  # enough of the train part
SETS = 8  # of positions, a film
FOLDS = 4
PRICES = np.geomspace(1, 1e5, 11)  # penalties of ridge regression


def fit(model: keras.Model, films: np.ndarray, seed: int = 0) -> tuple[dict[str, list[np.ndarray]], dict]:
    """Fit the kernels of `networks.with_attribution`: by layer name, and how they were found, ready for JSON.

    `films` are prepared films of the train part, (n, S, S) uint8. In each, SETS sets of positions are blurred in turn.
    The drop of the logit is regressed on the sums of the features in the set; from both, a straight line in the size of
    the set is subtracted first, film by film. `explained` is the share of the drop's variance that the regression
    explains in films that were left out.
    """
    size = model.input.shape[1]
    seen = [model.get_layer(name).output for name in ATTRIBUTION_LAYERS]
    looking = keras.Model(model.input, [*seen, model.get_layer(LOGIT_NAME).output])
    h, w = seen[0].shape[1:3]
    rng = np.random.default_rng(seed)
    found = []  # of each film (SETS, 1 + channels): the drop of the logit, and the sums of the features in the set
    for done, film in enumerate(films):
        if done % 100 == 0:
            print(f"heat map: positions blurred in {done} of {len(films)} films", flush=True)
        sets = np.stack([draw_positions(rng, h, w) for _ in range(SETS)])
        batch = [to_input(pixels, size) for pixels in (film, *(delete(film, positions) for positions in sets))]
        *features, logit = looking.predict_on_batch(np.concatenate(batch))
        whole = np.concatenate([layer[0] for layer in features], axis=-1).reshape(h * w, -1)
        columns = np.column_stack([logit[0] - logit[1:], sets.reshape(SETS, -1).astype(np.float32) @ whole])
        line = np.column_stack([np.ones(SETS), sets.sum(axis=(1, 2))])
        found.append(columns - line @ np.linalg.lstsq(line, columns)[0])
    taken, covered = np.split(np.concatenate(found), [1], axis=1)
    folds = list(GroupKFold(FOLDS).split(covered, groups=np.repeat(np.arange(len(films)), SETS)))
    scaler, ridge = StandardScaler(with_mean=False), RidgeCV(PRICES, fit_intercept=False, scoring="r2", cv=folds)
    ridge.fit(scaler.fit_transform(covered), taken[:, 0])
    # a position's logit is what the film's would be if all positions were like it
    kernel = OWN * h * w * ridge.coef_ / scaler.scale_
    ends = np.cumsum([layer.shape[-1] for layer in seen])[:-1]
    parts = [[part[None, None, :, None]] for part in np.split(kernel, ends)]
    how = {
        "films": len(films),
        "sets": SETS,
        "replaced_by": REPLACED_BY,
        "own": OWN,
        "price": float(ridge.alpha_),
        "explained": float(ridge.best_score_),
    }
    return dict(zip(kernel_names(), parts, strict=True)), how


def draw_positions(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    """Draw positions to blur, (h, w) bool: scattered ones, 10 to 50 % of all, or a rectangle, as pneumonias lie."""
    if rng.random() < 0.5:
        return rng.random((h, w)) < rng.uniform(0.1, 0.5)
    height, width = rng.integers(1, (h, w))
    top, left = rng.integers((h - height + 1, w - width + 1))
    positions = np.zeros((h, w), bool)
    positions[top : top + height, left : left + width] = True
    return positions
